//! The state's rules: what is done about what happens.

use crossterm::event::{KeyCode, KeyModifiers};
use tertulia_client::event::{Disconnect, Via};
use tertulia_protocol::DeviceId;
use tertulia_protocol::entry::{HistoryPolicy, Posting, Role};
use tertulia_protocol::rest::{Member, MemberSettings};

use super::*;

pub(in crate::chat) const TEA: ConvoId = ConvoId::from_bytes([1; 16]);
pub(in crate::chat) const WITH_BO: ConvoId = ConvoId::from_bytes([2; 16]);
pub(in crate::chat) const ANA: UserId = UserId::from_bytes([3; 16]);
pub(in crate::chat) const BO: UserId = UserId::from_bytes([4; 16]);
pub(in crate::chat) const CY: UserId = UserId::from_bytes([5; 16]);

/// Ana's chat: a group with Bo and Cy, and a direct conversation with Bo.
pub(in crate::chat) struct Bench {
    pub(in crate::chat) app: App,
    pub(in crate::chat) now: Instant,
}

pub(in crate::chat) fn user(id: UserId, name: &str) -> User {
    User {
        id,
        username: name.to_lowercase(),
        display_name: name.into(),
        about: String::new(),
        created_at: Timestamp::from_millis(0),
        privacy: None,
    }
}

fn conversation(
    id: ConvoId,
    title: Option<&str>,
    members: &[UserId],
    updated: i64,
    last: u64,
) -> Conversation {
    let member = |id: &UserId| Member {
        user_id: *id,
        role: Role::Member,
        delivered_seq: Seq::new(1),
        read_seq: Some(Seq::new(1)),
    };
    Conversation {
        id,
        kind: if title.is_some() { ConversationType::Group } else { ConversationType::Direct },
        title: title.map(str::to_owned),
        about: String::new(),
        posting: Posting::All,
        history: HistoryPolicy::All,
        created_at: Timestamp::from_millis(0),
        updated_at: Timestamp::from_millis(updated),
        last_seq: Seq::new(last),
        last_message: None,
        visible_from_seq: Seq::new(1),
        delivered_seq: Seq::new(1),
        read_seq: Seq::new(1),
        unread_count: 0,
        role: Role::Member,
        member_count: members.len() as u64,
        settings: MemberSettings::default(),
        members: Some(members.iter().map(member).collect()),
        members_next_cursor: None,
    }
}

pub(in crate::chat) fn text(convo: ConvoId, seq: u64, sender: UserId, body: &str) -> Entry {
    Entry {
        convo_id: convo,
        seq: Seq::new(seq),
        sender_id: sender,
        client_seq: Some(ClientSeq::new(seq)),
        ts: Timestamp::from_millis(i64::try_from(seq).unwrap() * 60_000),
        kind: EntryKind::Text { body: body.into(), reply_to: None },
    }
}

impl Bench {
    pub(in crate::chat) fn new() -> Self {
        let mut bench = Self { app: App::new(&user(ANA, "Ana")), now: Instant::now() };
        bench.client(Event::Connected {
            user_id: ANA,
            device_id: DeviceId::from_bytes([9; 16]),
            resumed: false,
        });
        bench.done(Done::User(user(BO, "Bo")));
        bench.done(Done::User(user(CY, "Cy")));
        bench.done(Done::Inbox(Page {
            items: vec![
                conversation(TEA, Some("tea"), &[ANA, BO, CY], 2_000, 1),
                conversation(WITH_BO, None, &[ANA, BO], 1_000, 1),
            ],
            next_cursor: None,
        }));
        for convo in [TEA, WITH_BO] {
            bench.done(Done::History {
                convo,
                before: None,
                page: HistoryPage { items: vec![text(convo, 1, BO, "first")], has_more: false },
            });
        }
        bench
    }

    pub(in crate::chat) fn take(&mut self, input: Input) -> Vec<Effect> {
        self.app.handle(input, self.now)
    }

    pub(in crate::chat) fn client(&mut self, event: Event) -> Vec<Effect> {
        self.take(Input::Client(event))
    }

    pub(in crate::chat) fn done(&mut self, done: Done) -> Vec<Effect> {
        self.take(Input::Done(done))
    }

    pub(in crate::chat) fn push(&mut self, entry: Entry) -> Vec<Effect> {
        self.client(Event::Entry { entry, via: Via::Push })
    }

    pub(in crate::chat) fn press(&mut self, code: KeyCode) -> Vec<Effect> {
        self.take(Input::Key(KeyEvent::new(code, KeyModifiers::NONE)))
    }

    /// Types a line and presses Enter; what typing itself does is left out.
    pub(in crate::chat) fn enter(&mut self, line: &str) -> Vec<Effect> {
        self.take(Input::Paste(line.into()));
        self.press(KeyCode::Enter)
    }

    fn order(&self) -> Vec<ConvoId> {
        self.app.inbox().iter().map(|convo| convo.id).collect()
    }

    fn convo(&self, id: ConvoId) -> &Convo {
        &self.app.convos[&id]
    }
}

#[test]
fn a_connection_that_could_not_resume_reads_the_inbox() {
    let mut app = App::new(&user(ANA, "Ana"));
    let connected =
        |resumed| Event::Connected { user_id: ANA, device_id: DeviceId::from_bytes([9; 16]), resumed };
    let now = Instant::now();
    assert_eq!(app.handle(Input::Client(connected(false)), now), [Effect::LoadInbox(None)]);
    app.handle(Input::Done(Done::Inbox(Page { items: vec![], next_cursor: None })), now);
    assert_eq!(app.handle(Input::Client(connected(true)), now), []);
    assert_eq!(app.handle(Input::Client(connected(false)), now), [Effect::LoadInbox(None)]);
}

#[test]
fn the_inbox_opens_its_newest_conversation_and_watches_direct_peers() {
    let mut app = App::new(&user(ANA, "Ana"));
    let page = Page { items: vec![conversation(WITH_BO, None, &[ANA, BO], 1, 5)], next_cursor: None };
    let effects = app.handle(Input::Done(Done::Inbox(page)), Instant::now());
    assert_eq!(
        effects,
        [Effect::LoadUser(BO), Effect::Watch(vec![BO]), Effect::LoadHistory { convo: WITH_BO, before: None }]
    );
    assert_eq!(app.open, Some(WITH_BO));
}

#[test]
fn a_direct_conversation_that_begins_without_its_members_asks_for_them() {
    let mut bench = Bench::new();
    let begun = conversation(ConvoId::from_bytes([7; 16]), None, &[ANA, CY], 3_000, 1);
    let nobody = Conversation { members: None, ..begun.clone() };
    let effects = bench.client(Event::Conversation(ConversationNews::Whole(Box::new(nobody))));
    assert_eq!(effects, [Effect::LoadConversation(begun.id)]);
    bench.done(Done::Conversation { conversation: Box::new(begun.clone()), open: false });
    assert_eq!(bench.app.title(bench.convo(begun.id)), "Cy");
}

#[test]
fn what_comes_in_the_open_conversation_is_read_and_elsewhere_unread() {
    let mut bench = Bench::new();
    let read = bench.push(text(TEA, 2, BO, "hi"));
    assert_eq!(read, [Effect::Mark { convo: TEA, delivered: Seq::new(2), read: Some(Seq::new(2)) }]);
    let delivered = bench.push(text(WITH_BO, 2, BO, "psst"));
    assert_eq!(delivered, [Effect::Mark { convo: WITH_BO, delivered: Seq::new(2), read: None }]);
    assert_eq!((bench.convo(TEA).unread, bench.convo(WITH_BO).unread, bench.app.unread()), (0, 1, 1));
    let opened = bench.press(KeyCode::Tab);
    assert_eq!(opened, [Effect::Mark { convo: WITH_BO, delivered: Seq::new(2), read: Some(Seq::new(2)) }]);
    assert_eq!(bench.app.unread(), 0);
}

#[test]
fn what_comes_while_one_reads_further_up_stays_unread_until_one_is_back() {
    let mut bench = Bench::new();
    bench.press(KeyCode::PageUp);
    bench.push(text(TEA, 2, BO, "hi"));
    assert_eq!(bench.convo(TEA).unread, 1);
    let read = bench.press(KeyCode::Esc);
    assert_eq!(read, [Effect::Mark { convo: TEA, delivered: Seq::new(2), read: Some(Seq::new(2)) }]);
    assert_eq!(bench.convo(TEA).unread, 0);
}

#[test]
fn conversations_are_sorted_by_their_newest_entry() {
    let mut bench = Bench::new();
    assert_eq!(bench.order(), [TEA, WITH_BO]);
    bench.push(text(WITH_BO, 2, BO, "psst"));
    assert_eq!(bench.order(), [WITH_BO, TEA]);
    assert_eq!(bench.app.open, Some(TEA), "the open one stays open");
}

#[test]
fn an_entry_that_comes_twice_counts_once() {
    let mut bench = Bench::new();
    bench.push(text(WITH_BO, 2, BO, "psst"));
    bench.push(text(WITH_BO, 2, BO, "psst"));
    assert_eq!((bench.convo(WITH_BO).unread, bench.convo(WITH_BO).entries.len()), (1, 2));
}

#[test]
fn a_message_waits_until_it_is_in_the_log() {
    let mut bench = Bench::new();
    let effects = bench.enter("hello");
    assert_eq!(effects, [Effect::Send { local: 0, convo: TEA, body: "hello".into(), reply_to: None }]);
    assert_eq!(bench.convo(TEA).pending.len(), 1);
    bench.done(Done::Sent { local: 0, convo: TEA, client_seq: ClientSeq::new(2) });
    bench.client(Event::SendAcked {
        convo_id: TEA,
        client_seq: ClientSeq::new(2),
        seq: Seq::new(2),
        ts: Timestamp::from_millis(0),
        latency: Duration::ZERO,
    });
    bench.push(text(TEA, 2, ANA, "hello"));
    assert_eq!((bench.convo(TEA).pending.len(), bench.convo(TEA).entries.len()), (0, 2));
}

#[test]
fn a_refusal_that_is_faster_than_the_number_is_not_lost() {
    let mut bench = Bench::new();
    bench.enter("hello");
    bench.client(Event::SendFailed {
        convo_id: TEA,
        client_seq: ClientSeq::new(2),
        code: tertulia_protocol::Code::Forbidden,
        detail: "only admins write here".into(),
    });
    bench.done(Done::Sent { local: 0, convo: TEA, client_seq: ClientSeq::new(2) });
    let expected = PendingState::Failed("only admins write here".into());
    assert_eq!(bench.convo(TEA).pending[0].state, expected);
}

#[test]
fn ticks_follow_the_slowest_member() {
    let mut bench = Bench::new();
    bench.push(text(TEA, 2, ANA, "hello"));
    let tick = |bench: &Bench| bench.convo(TEA).tick(Seq::new(2), ANA);
    let mut receipt = |user_id, delivered, read| {
        bench.client(Event::Receipt {
            convo_id: TEA,
            user_id,
            delivered_seq: Seq::new(delivered),
            read_seq: Some(Seq::new(read)),
            ts: Timestamp::from_millis(0),
        });
        tick(&bench)
    };
    assert_eq!(receipt(BO, 2, 2), Tick::Sent);
    assert_eq!(receipt(CY, 2, 1), Tick::Delivered);
    assert_eq!(receipt(CY, 2, 2), Tick::Read);
}

#[test]
fn typing_is_told_and_expires() {
    let mut bench = Bench::new();
    assert_eq!(bench.press(KeyCode::Char('h')), [Effect::Typing { convo: TEA, active: true }]);
    assert_eq!(bench.press(KeyCode::Backspace), [Effect::Typing { convo: TEA, active: false }]);
    assert_eq!(bench.press(KeyCode::Char('/')), [Effect::Typing { convo: TEA, active: false }]);
    bench.client(Event::Typing { convo_id: TEA, user_id: BO, active: true });
    assert_eq!(bench.convo(TEA).typing.len(), 1);
    bench.now += TYPING_FOR;
    bench.take(Input::Tick);
    assert_eq!(bench.convo(TEA).typing.len(), 0);
}

#[test]
fn commands_become_effects() {
    for (line, effect) in [
        ("/direct bo", Effect::OpenDirect("bo".into())),
        ("/group tea bo", Effect::OpenGroup { title: "tea".into(), users: vec!["bo".into()] }),
        ("/add bo", Effect::Add { convo: TEA, users: vec!["bo".into()] }),
        ("/rename green tea", Effect::Rename { convo: TEA, title: "green tea".into() }),
        ("/leave", Effect::Leave(TEA)),
        (
            "/reply 1 yes",
            Effect::Send { local: 0, convo: TEA, body: "yes".into(), reply_to: Some(Seq::new(1)) },
        ),
    ] {
        assert_eq!(Bench::new().enter(line), [effect], "{line}");
    }
}

#[test]
fn what_cannot_be_done_is_said_and_the_line_stays() {
    for (line, notice) in [("/dance", "there is no /dance"), ("/reply 1  ", "write /reply"), ("a\0b", "NUL")]
    {
        let mut bench = Bench::new();
        assert_eq!(bench.enter(line), [], "{line}");
        assert_eq!(bench.app.editor.text(), line);
        assert!(bench.app.notice.as_deref().unwrap_or_default().contains(notice), "{:?}", bench.app.notice);
        bench.now += NOTICE_FOR;
        bench.take(Input::Tick);
        assert_eq!(bench.app.notice, None);
    }
}

#[test]
fn scrolling_up_reads_older_pages_one_at_a_time_until_the_beginning() {
    let mut bench = Bench::new();
    let page = |seqs: std::ops::RangeInclusive<u64>, has_more| HistoryPage {
        items: seqs.map(|seq| text(TEA, seq, BO, "x")).collect(),
        has_more,
    };
    let convo = bench.app.convos.get_mut(&TEA).unwrap();
    convo.entries.clear();
    convo.history(None, page(201..=300, true), ANA);
    for _ in 0..6 {
        assert_eq!(bench.press(KeyCode::PageUp), []);
    }
    let older = Effect::LoadHistory { convo: TEA, before: Some(Seq::new(201)) };
    assert_eq!(bench.press(KeyCode::PageUp), [older]);
    assert_eq!(bench.press(KeyCode::PageUp), [], "it is on its way");
    bench.done(Done::History { convo: TEA, before: Some(Seq::new(201)), page: page(151..=200, false) });
    for _ in 0..20 {
        assert_eq!(bench.press(KeyCode::PageUp), []);
    }
}

#[test]
fn the_first_conversation_of_all_opens_by_itself() {
    let mut app = App::new(&user(ANA, "Ana"));
    let begun = Box::new(conversation(WITH_BO, None, &[ANA, BO], 1, 1));
    app.handle(Input::Client(Event::Conversation(ConversationNews::Whole(begun))), Instant::now());
    assert_eq!(app.open, Some(WITH_BO));
}

#[test]
fn a_draft_waits_in_its_conversation() {
    let mut bench = Bench::new();
    bench.take(Input::Paste("half a thou".into()));
    bench.press(KeyCode::Tab);
    assert_eq!(bench.app.editor.text(), "");
    bench.press(KeyCode::Tab);
    assert_eq!(bench.app.editor.text(), "half a thou");
}

#[test]
fn whoever_leaves_or_is_removed_sees_the_next_conversation() {
    let mut bench = Bench::new();
    bench.client(Event::Conversation(ConversationNews::Left { id: TEA, left: true }));
    assert_eq!((bench.order(), bench.app.open), (vec![WITH_BO], Some(WITH_BO)));
}

#[test]
fn a_group_that_is_renamed_has_the_new_name() {
    let mut bench = Bench::new();
    let mut renamed = text(TEA, 2, BO, "");
    renamed.kind = EntryKind::Renamed { title: "green tea".into() };
    bench.push(renamed);
    assert_eq!(bench.app.title(bench.convo(TEA)), "green tea");
}

#[test]
fn the_line_to_the_server_is_shown_as_it_is() {
    let mut bench = Bench::new();
    let reason = Disconnect::Broken("reset".into());
    bench.client(Event::Disconnected { reason, retry_in: Duration::from_secs(3) });
    assert_eq!(bench.app.link, Link::Down { why: "reset".into(), until: bench.now + Duration::from_secs(3) });
    bench.client(Event::SessionLost(tertulia_client::error::SessionLost::Revoked));
    assert!(matches!(bench.app.link, Link::Lost(_)));
}

#[test]
fn who_quits_with_unsent_messages_is_asked_once() {
    let mut bench = Bench::new();
    bench.enter("hello");
    bench.enter("/quit");
    assert!(!bench.app.over);
    bench.enter("/quit");
    assert!(bench.app.over);
    let mut bench = Bench::new();
    bench.enter("/quit");
    assert!(bench.app.over);
}

/// A page of results: messages of Bo, with `tea` marked.
pub(in crate::chat) fn results(places: &[(ConvoId, u64)], next_cursor: Option<&str>) -> Page<FoundMessage> {
    let items = places.iter().map(|&(convo, seq)| FoundMessage {
        message: text(convo, seq, BO, "more tea"),
        snippet: tertulia_protocol::rest::Snippet { text: "more tea".into(), marks: vec![[5, 8]] },
    });
    Page { items: items.collect(), next_cursor: next_cursor.map(str::to_owned) }
}

impl Bench {
    pub(in crate::chat) fn found(&mut self, q: &str, page: Page<FoundMessage>) -> Vec<Effect> {
        self.done(Done::Found { q: q.into(), page })
    }
}

#[test]
fn a_search_is_asked_and_its_result_is_gone_to() {
    let mut bench = Bench::new();
    let asked = bench.enter("/search tea from:bo");
    assert_eq!(asked, [Effect::Search { q: "tea from:bo".into(), cursor: None }]);
    assert_eq!(bench.app.overlay, Some(Overlay::Results));
    bench.found("tea from:bo", results(&[(TEA, 1), (WITH_BO, 1)], None));
    bench.press(KeyCode::Down);
    bench.press(KeyCode::Enter);
    assert_eq!((bench.app.open, bench.app.overlay), (Some(WITH_BO), None));
    assert_eq!(bench.app.convos[&WITH_BO].shown, Some(Seq::new(1)));
    // A digit does the same; what another search finds is not shown.
    bench.enter("/search tea");
    bench.found("tea from:bo", results(&[(WITH_BO, 1)], None));
    bench.found("tea", results(&[(WITH_BO, 1), (TEA, 1)], None));
    bench.press(KeyCode::Char('2'));
    assert_eq!((bench.app.open, bench.app.overlay), (Some(TEA), None));
    assert!(bench.app.editor.text().is_empty(), "digits are not typed");
}

#[test]
fn more_results_are_asked_for_as_one_comes_near_the_end() {
    let mut bench = Bench::new();
    bench.enter("/search tea");
    let many: Vec<_> = (1..=27).map(|seq| (TEA, seq)).collect();
    assert_eq!(bench.found("tea", results(&many, Some("more"))), []);
    assert_eq!(bench.press(KeyCode::PageDown), []);
    let next = Effect::Search { q: "tea".into(), cursor: Some("more".into()) };
    assert_eq!(bench.press(KeyCode::PageDown), [next]);
    assert_eq!(bench.press(KeyCode::Down), [], "once");
    bench.found("tea", results(&[(TEA, 28)], None));
    let shown = |bench: &Bench| {
        bench
            .app
            .results
            .as_ref()
            .unwrap()
            .shown()
            .map(|(digit, it)| (digit, it.message.seq.get()))
            .collect::<Vec<_>>()
    };
    bench.press(KeyCode::End);
    assert_eq!(shown(&bench), [(1, 28)]);
    bench.press(KeyCode::PageUp);
    assert_eq!(shown(&bench).len(), 9);
    bench.press(KeyCode::Esc);
    assert_eq!(bench.app.overlay, None);
}

#[test]
fn a_result_further_back_is_read_for() {
    let mut bench = Bench::new();
    for seq in 2..=300 {
        bench.push(text(TEA, seq, BO, "x"));
    }
    let tea = bench.app.convos.get_mut(&TEA).unwrap();
    (tea.entries, tea.complete) = (tea.entries.split_off(&Seq::new(201)), false);
    bench.enter("/search tea");
    bench.found("tea", results(&[(TEA, 50)], None));
    let page = |first: u64, last: u64| HistoryPage {
        items: (first..=last).map(|seq| text(TEA, seq, BO, "x")).collect(),
        has_more: first > 1,
    };
    let read = |before: u64| Effect::LoadHistory { convo: TEA, before: Some(Seq::new(before)) };
    let effects = bench.press(KeyCode::Enter);
    assert!(effects.contains(&read(201)), "{effects:?}");
    let effects = bench.done(Done::History { convo: TEA, before: Some(Seq::new(201)), page: page(101, 200) });
    assert!(effects.contains(&read(101)), "{effects:?}");
    let effects = bench.done(Done::History { convo: TEA, before: Some(Seq::new(101)), page: page(1, 100) });
    assert!(!effects.iter().any(|effect| matches!(effect, Effect::LoadHistory { .. })), "{effects:?}");
    assert!(bench.app.notice.is_none());
}

#[test]
fn a_search_that_fails_says_why() {
    let mut bench = Bench::new();
    let effect = bench.enter("/search 🎉").remove(0);
    bench.done(Done::Failed { effect, why: "there is nothing to seek".into() });
    assert_eq!((bench.app.overlay, bench.app.results.is_none()), (None, true));
    assert_eq!(bench.app.notice.as_deref(), Some("there is nothing to seek"));
}
