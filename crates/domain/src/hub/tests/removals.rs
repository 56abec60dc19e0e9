//! Who is let in or put out while he comes, lags or resumes is told that, once, and nothing that is not for him.

use super::*;

/// Bo comes with heads that are ahead of what was delivered; what is between lets Cy in, and puts him out.
#[test]
fn who_is_let_in_by_an_entry_that_another_has_brought_along_is_told_all_the_same() {
    let world = World::new(Limits::default());
    let cy = world.connect_in(CY, &[]);
    let entry = |seq, kind| {
        let (seq, ts) = (Seq::new(seq), world.now);
        let entry = Entry { convo_id: CONVO, seq, sender_id: ANA, client_seq: None, ts, kind };
        Outcome::Appended { entry: Arc::new(entry), shared: None }
    };
    let added = entry(1, EntryKind::MemberAdded { user_ids: vec![CY] });
    let removed = entry(2, EntryKind::MemberRemoved { user_ids: vec![CY] });
    let bo = world.connect_in(BO, &[Head { convo: CONVO, last_seq: Seq::new(2), member_count: 2 }]);
    let deliver = |commit, outcome: &Outcome| {
        world.hand_over(Commit::new(commit), Committed { outcome, origin: None, shows_read: true });
    };
    deliver(1, &added);
    let step = world.hub.next_step(&cy);
    assert!(matches!(step, Some(Step::News { convo: CONVO, whole: true, .. })), "{step:?}");
    assert_eq!(world.hub.next_step(&bo), None);
    deliver(2, &removed);
    assert_eq!(world.hub.next_step(&cy), None);
    let told: Vec<_> =
        payloads(&cy.take().outbox.to_vec()).map(|text| String::from_utf8_lossy(text).into_owned()).collect();
    assert!(told.last().is_some_and(|event| event.contains("\"left\":true")), "{told:?}");
    assert!(got(&bo).is_empty());
}

/// The store is ahead of the hub: there he is out already, and no page is to be had.
#[test]
fn who_lags_when_he_is_put_out_is_told_what_he_lacks_also_where_the_store_knows_of_it_first() {
    let mut world = World::new(Limits::default());
    world.send("a", None);
    world.send("b", None);
    let bo = world.begin_resume(1);
    world.hub.finish_resume(&bo, changed(missed_from(1, 2)), &HashSet::new());
    let (late, removal) = (world.text("c"), world.remove_bo());
    assert!(matches!(world.hub.next_step(&bo), Some(Step::Page { .. })));
    world.hub.forget(&bo, CONVO);
    world.deliver(&late);
    assert!(got(&bo).is_empty(), "what comes before his removal is not live to him");
    world.deliver(&removal);
    assert_eq!(got(&bo), ["gap 1-3", "4 removed", "left"]);
    world.hub.forget(&bo, CONVO);
    assert_eq!((world.hub.next_step(&bo), bo.is_lagging()), (None, false));
}

#[test]
fn who_is_put_out_while_he_resumes_is_told_that_and_no_part_of_what_he_missed() {
    let mut world = World::new(Limits::default());
    world.send("a", None);
    let bo = world.begin_resume(1);
    let (late, removal) = (world.text("b"), world.remove_bo());
    world.deliver(&late);
    world.deliver(&removal);
    assert_eq!(got(&bo), ["left"]);
    // What was read from the store before that is of no use any more.
    world.hub.finish_resume(&bo, changed(missed_from(1, 1)), &HashSet::new());
    assert!(matches!(world.hub.next_step(&bo), Some(Step::Page { .. })));
    world.hub.forget(&bo, CONVO);
    assert_eq!((got(&bo).len(), bo.is_lagging()), (0, false));
}

#[test]
fn who_resumes_and_is_out_already_in_the_store_gets_nothing_live_until_the_hub_knows_it_too() {
    let mut world = World::new(Limits::default());
    world.send("a", None);
    let bo = world.begin_resume(1);
    let (late, removal) = (world.text("b"), world.remove_bo());
    world.hub.finish_resume(&bo, changed(Change::Left(CONVO)), &HashSet::new());
    assert_eq!(world.hub.next_step(&bo), None);
    world.deliver(&late);
    assert!(got(&bo).is_empty());
    world.deliver(&removal);
    assert_eq!((got(&bo), bo.is_lagging()), (vec!["left".to_owned()], false));
}

/// Cy was let in by the second entry, which the hub has not heard, and reads it.
fn reads_of_his_admission(world: &World, heads: &[Head]) -> (Arc<Connection>, (Arc<Entry>, Commit)) {
    let kind = EntryKind::MemberAdded { user_ids: vec![CY] };
    let (seq, ts) = (Seq::new(2), world.now);
    let entry = Entry { convo_id: CONVO, seq, sender_id: ANA, client_seq: None, ts, kind };
    let added = (Arc::new(entry), Commit::new(2));
    let who = (CY, DeviceId::from_bytes([8; 16]));
    let (cy, _) = world.hub.register(Mode::Socket, who, Privacy::default(), world.hub.position(), world.now);
    world.hub.attach(CY, heads);
    let missed = changed(Change::In {
        convo: CONVO,
        joined: true,
        first_missed: Some(seq),
        last_seq: seq,
        shared: None,
        own: None,
        receipts: Vec::new(),
    });
    world.hub.finish_resume(&cy, missed, &HashSet::new());
    assert!(matches!(world.hub.next_step(&cy), Some(Step::News { whole: true, .. })));
    world.hub.give_news(&cy, CONVO, None, None, &HashSet::new());
    let step = Step::Page { convo: CONVO, after: Seq::new(1), limit: PAGE_MAX };
    assert_eq!(world.hub.next_step(&cy), Some(step));
    let page = HistorySlice { entries: vec![added.clone()], has_more: false };
    world.hub.give_page(&cy, CONVO, &page);
    assert!(!cy.take().outbox.to_vec().is_empty());
    (cy, added)
}

#[test]
fn who_has_read_that_he_was_let_in_before_it_came_here_is_told_it_once() {
    for mut world in [World::new(Limits::default()), World::of_many()] {
        let ana = world.connect(ANA);
        let before = world.text("before");
        let head = Head { convo: CONVO, last_seq: Seq::new(2), member_count: 3 };
        let (cy, added) = reads_of_his_admission(&world, &[head]);

        world.deliver(&before);
        world.deliver(&(Outcome::Appended { entry: added.0, shared: None }, added.1));
        world.hub.caught_up(at(3));
        assert_eq!((world.hub.next_step(&cy), cy.is_lagging()), (None, false));
        assert!(cy.take().outbox.to_vec().is_empty());
        assert!(!ana.take().outbox.to_vec().is_empty());
    }
}

/// He was not in it yet when he came here, and nobody else is in it here.
#[test]
fn who_has_read_that_he_was_let_in_before_the_node_knew_the_conversation_is_told_it_once() {
    let mut world = World::of_many();
    world.text("before");
    let (cy, added) = reads_of_his_admission(&world, &[]);

    world.log.push(added.clone());
    world.deliver(&(Outcome::Appended { entry: added.0, shared: None }, added.1));
    world.hub.caught_up(at(3));
    assert_eq!((world.hub.next_step(&cy), cy.is_lagging()), (None, false));
    assert!(cy.take().outbox.to_vec().is_empty());
    world.send("after", None);
    assert_eq!(got(&cy), ["3 after @3"]);
}
