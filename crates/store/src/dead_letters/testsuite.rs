//! What every adapter of the port must do.

use super::*;

const NOW: Timestamp = Timestamp::from_millis(1_000);
const LATER: Timestamp = Timestamp::from_millis(2_000);
const CONVO: ConvoId = ConvoId::from_bytes([7; 16]);

fn ids(letters: &[DeadLetter]) -> Vec<i64> {
    letters.iter().map(|letter| letter.id).collect()
}

/// `letters` and `command` are two who have the same open.
pub(crate) async fn an_entry_is_laid_here_once_and_goes_when_it_was_taken(
    letters: &dyn DeadLetters,
    command: &dyn DeadLetters,
) {
    letters.put("search", CONVO, Seq::new(3), "too odd", NOW).await.unwrap();
    letters.put("search", CONVO, Seq::new(5), "too odd", NOW).await.unwrap();
    letters.put("search", CONVO, Seq::new(3), &"still ".repeat(500), LATER).await.unwrap();
    letters.put("push", CONVO, Seq::new(3), "no such device", NOW).await.unwrap();
    assert_eq!((letters.count("search").await.unwrap(), letters.count("push").await.unwrap()), (2, 1));
    // Whoever else has them open sees the same.
    let list = command.list(0, 100).await.unwrap();
    assert_eq!(list.len(), 3);
    assert_eq!((list[0].tries, list[0].first_at, list[0].last_at), (2, NOW, LATER));
    assert_eq!((list[0].convo, list[0].seq, list[0].consumer.as_str()), (CONVO, Seq::new(3), "search"));
    assert_eq!(list[0].why.chars().count(), WHY_CHARS_MAX);
    assert_eq!(command.list(list[0].id, 1).await.unwrap(), list[1..2]);

    assert_eq!(letters.asked("search", 10).await.unwrap(), []);
    assert_eq!(command.ask_again(Some(list[1].id)).await.unwrap(), 1);
    assert_eq!(command.ask_again(Some(i64::MAX)).await.unwrap(), 0);
    assert_eq!(ids(&letters.asked("search", 10).await.unwrap()), [list[1].id]);
    // Asked for anew it is given anew.
    assert_eq!(command.ask_again(None).await.unwrap(), 3);
    assert_eq!(ids(&letters.asked("search", 10).await.unwrap()), [list[0].id, list[1].id]);
    letters.put("search", CONVO, Seq::new(3), "in vain", LATER).await.unwrap();
    letters.remove(list[1].id).await.unwrap();
    // Laid down again it is not asked for, and stays.
    letters.remove(list[0].id).await.unwrap();
    assert_eq!(letters.asked("search", 10).await.unwrap(), []);
    assert_eq!(letters.count("search").await.unwrap(), 1);
    assert_eq!(letters.asked("push", 10).await.unwrap().len(), 1);
}
