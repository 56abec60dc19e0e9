//! The rules, one statement each; whole histories are checked against a model by the store's suite.

use proptest::prelude::*;
use tertulia_protocol::entry::{ConversationType, HistoryPolicy, Role};
use tertulia_protocol::{ClientSeq, ConvoId, DeviceId, EntryKind, Seq, Timestamp, UserId};

use super::*;
use crate::log::{Intent, Outcome, Refusal};

const TEA: ConvoId = ConvoId::from_bytes([9; 16]);
const ANA: UserId = UserId::from_bytes([1; 16]);
const BO: UserId = UserId::from_bytes([2; 16]);
const CY: UserId = UserId::from_bytes([3; 16]);
const PHONE: DeviceId = DeviceId::from_bytes([4; 16]);

/// A conversation whose log is all that there is: questions are answered from it.
#[derive(Default)]
struct World {
    convo: Option<Conversation>,
    records: Vec<Record>,
    now: i64,
}

impl World {
    fn group(members: &[UserId]) -> Self {
        let mut world = Self::default();
        let (by, kind, history) = (members[0], ConversationType::Group, HistoryPolicy::SinceJoined);
        let members = members.to_vec();
        world.act(Intent::Create { convo: TEA, by, kind, title: None, members, history });
        world
    }

    fn act(&mut self, mut intent: Intent) -> Outcome {
        self.now += 1;
        let mut facts = Facts::default();
        for _ in 0..4 {
            match decide(self.convo.as_ref(), intent, Timestamp::from_millis(self.now), &facts) {
                Decision::Answer(outcome) => return outcome,
                Decision::Accept(proposal) => {
                    let (record, outcome) = apply(&mut self.convo, proposal);
                    self.records.push(record);
                    return outcome;
                }
                Decision::Ask(question, again) => {
                    self.answer(question, &mut facts);
                    intent = again;
                }
            }
        }
        panic!("it asks without end")
    }

    fn answer(&mut self, question: Question, facts: &mut Facts) {
        let entries = || {
            self.records.iter().filter_map(|record| match record {
                Record::Entry { entry, message_no, effect } => Some((entry, *message_no, effect)),
                _ => None,
            })
        };
        let of = |from: DeviceId| {
            entries()
                .filter(move |(.., effect)| matches!(effect, Effect::Sent { device, .. } if *device == from))
        };
        match question {
            Question::HighestSent(device) => {
                let highest = of(device).filter_map(|(entry, ..)| entry.client_seq).max();
                self.convo.as_mut().unwrap().learn_highest_sent(device, highest);
            }
            Question::Sent(device, client_seq) => {
                let found = of(device).find(|(entry, ..)| entry.client_seq == Some(client_seq));
                facts.sent = Some(found.map(|(entry, ..)| entry.clone()));
            }
            Question::MessageNo(seq) => {
                facts.message_no =
                    entries().find(|(entry, ..)| entry.seq == seq).map(|(_, number, _)| number);
            }
        }
    }

    fn say(&mut self, sender: UserId, number: u64) -> Outcome {
        let (device, client_seq) = (PHONE, ClientSeq::new(number));
        self.act(Intent::Send { convo: TEA, sender, device, client_seq, body: "hi".into(), reply_to: None })
    }

    fn member(&self, user: UserId) -> Membership {
        *self.convo.as_ref().unwrap().member(user).unwrap()
    }

    /// The conversation as its entries alone give it.
    fn folded(&self) -> Conversation {
        let mut entries = self.records.iter().filter_map(|record| match record {
            Record::Entry { entry, .. } => Some(entry),
            _ => None,
        });
        let mut folded = Conversation::begun(entries.next().unwrap()).unwrap();
        for entry in entries {
            folded.fold(entry);
        }
        folded
    }
}

#[track_caller]
fn refused(outcome: Outcome) -> Refusal {
    let Outcome::Refused(refusal) = outcome else { panic!("{outcome:?}") };
    refusal
}

#[test]
fn a_number_above_all_others_needs_no_look() {
    let mut world = World::group(&[ANA]);
    world.say(ANA, 1);
    let send = |number| Intent::Send {
        convo: TEA,
        sender: ANA,
        device: PHONE,
        client_seq: ClientSeq::new(number),
        body: "hi".into(),
        reply_to: None,
    };
    let asks = |number| {
        let decision = decide(world.convo.as_ref(), send(number), Timestamp::default(), &Facts::default());
        matches!(decision, Decision::Ask(Question::Sent(..), _))
    };
    assert!(!asks(2));
    assert!(asks(1));
}

#[test]
fn a_device_that_was_never_seen_is_asked_for_once() {
    let mut world = World::group(&[ANA]);
    let restored = Conversation::restored(
        world.convo.as_ref().unwrap().summary().clone(),
        world.convo.as_ref().unwrap().members().map(|(user, member)| (user, *member)).collect(),
    );
    world.say(ANA, 7);
    world.convo = Some(restored);
    world.convo.as_mut().unwrap().learn_highest_sent(PHONE, Some(ClientSeq::new(7)));
    assert!(matches!(world.say(ANA, 7), Outcome::Duplicate(_)));
}

#[test]
fn a_message_is_sent_before_it_is_blocked() {
    // What was taken is answered, whatever holds now: the retry comes first.
    let mut world = World::default();
    let (kind, history) = (ConversationType::Direct, HistoryPolicy::SinceJoined);
    world.act(Intent::Create { convo: TEA, by: ANA, kind, title: None, members: vec![ANA, BO], history });
    world.say(ANA, 1);
    world.act(Intent::SetBlock { convo: TEA, by: BO, blocked: true });
    assert!(matches!(world.say(ANA, 1), Outcome::Duplicate(_)));
    assert_eq!(refused(world.say(ANA, 2)), Refusal::Blocked);
}

#[test]
fn numbers_of_messages_after_the_last_change_are_arithmetic() {
    let mut world = World::group(&[ANA, BO]);
    for number in 1..=3 {
        world.say(ANA, number);
    }
    world.act(Intent::Rename { convo: TEA, by: ANA, title: "tea".into() });
    world.say(ANA, 4);
    let convo = world.convo.as_ref().unwrap();
    let known: Vec<_> = (0..=7).map(|seq| convo.message_no(Seq::new(seq))).collect();
    assert_eq!(known, [None, None, None, None, None, Some(3), Some(4), None]);
}

#[test]
fn a_record_says_which_watermarks_went_over_something() {
    let mut world = World::group(&[ANA, BO]);
    world.say(ANA, 1);
    world.act(Intent::Mark { convo: TEA, user: BO, delivered: Some(Seq::new(2)), read: None });
    world.say(BO, 2);
    world.say(BO, 3);
    let passed: Vec<_> = world
        .records
        .iter()
        .filter_map(|record| match record {
            Record::Entry { effect: Effect::Sent { passed, .. }, .. } | Record::Mark { passed, .. } => {
                Some((passed.delivered, passed.read))
            }
            _ => None,
        })
        .collect();
    assert_eq!(passed, [(false, false), (true, false), (false, true), (false, false)]);
}

#[test]
fn a_group_has_room_for_a_hundred_thousand() {
    let mut world = World::group(&[ANA]);
    let user = |number: u32| {
        let mut bytes = [7; 16];
        bytes[..4].copy_from_slice(&number.to_be_bytes());
        UserId::from_bytes(bytes)
    };
    let room = u32::try_from(GROUP_MEMBERS_MAX - 1).unwrap();
    world.act(Intent::AddMembers { convo: TEA, by: ANA, users: (0..room).map(user).collect() });
    assert_eq!(world.convo.as_ref().unwrap().members().len(), GROUP_MEMBERS_MAX);
    let refusal = refused(world.act(Intent::AddMembers { convo: TEA, by: ANA, users: vec![user(room)] }));
    assert_eq!(refusal, Refusal::TooManyMembers(GROUP_MEMBERS_MAX));
}

#[test]
fn the_successor_stands_in_the_record() {
    let mut world = World::group(&[ANA, BO, CY]);
    world.act(Intent::SetRole { convo: TEA, by: ANA, user: CY, role: Role::Admin });
    world.act(Intent::RemoveMember { convo: TEA, by: ANA, user: ANA });
    let last = world.records.last().unwrap();
    assert!(matches!(last, Record::Entry { effect: Effect::Left { successor: Some(CY) }, .. }), "{last:?}");
    assert_eq!(world.member(CY).role, Role::Owner);
    assert_eq!(world.folded().member(CY).unwrap().role, Role::Owner);
}

fn any_intent() -> impl Strategy<Value = Intent> {
    let users = prop::sample::select(&[ANA, BO, CY][..]);
    let roles = prop::sample::select(&[Role::Member, Role::Admin, Role::Owner][..]);
    let pair = (users.clone(), users.clone());
    prop_oneof![
        (users.clone(), 1..9_u64).prop_map(|(sender, number)| Intent::Send {
            convo: TEA,
            sender,
            device: PHONE,
            client_seq: ClientSeq::new(number),
            body: "hi".into(),
            reply_to: None,
        }),
        pair.clone().prop_map(|(by, user)| Intent::AddMembers { convo: TEA, by, users: vec![user] }),
        pair.clone().prop_map(|(by, user)| Intent::RemoveMember { convo: TEA, by, user }),
        (pair, roles).prop_map(|((by, user), role)| Intent::SetRole { convo: TEA, by, user, role }),
        (users, 0..20_u64, 0..20_u64).prop_map(|(user, delivered, read)| Intent::Mark {
            convo: TEA,
            user,
            delivered: Some(Seq::new(delivered)),
            read: Some(Seq::new(read)),
        }),
    ]
}

proptest! {
    #[test]
    fn the_log_alone_gives_members_and_roles(intents in prop::collection::vec(any_intent(), 0..80)) {
        let mut world = World::group(&[ANA, BO]);
        for intent in intents {
            world.act(intent);
        }
        let (state, folded) = (world.convo.as_ref().unwrap(), world.folded());
        prop_assert_eq!(state.summary(), folded.summary());
        prop_assert_eq!(state.members().len(), folded.members().len());
        for (user, member) in state.members() {
            let by_log = folded.member(user).unwrap();
            prop_assert_eq!(
                (member.role, member.joined_no, member.joined_seq, member.visible_from),
                (by_log.role, by_log.joined_no, by_log.joined_seq, by_log.visible_from)
            );
            prop_assert!(member.read <= member.delivered && member.delivered <= state.summary().last_seq);
        }
        prop_assert!(state.members().len() == 0 || state.members().any(|(_, member)| member.role == Role::Owner));
    }

    #[test]
    fn entries_are_dense_and_watermarks_only_rise(intents in prop::collection::vec(any_intent(), 0..80)) {
        let mut world = World::group(&[ANA, BO, CY]);
        let mut seq = 1;
        for intent in intents {
            let before: Vec<_> = world.convo.as_ref().unwrap().members().map(|(user, m)| (user, *m)).collect();
            if let Outcome::Appended { entry, .. } = world.act(intent) {
                seq += 1;
                prop_assert_eq!(entry.seq, Seq::new(seq));
                let begins = matches!(entry.kind, EntryKind::Created { .. });
                prop_assert!(!begins);
            }
            for (user, old) in before {
                let Some(new) = world.convo.as_ref().unwrap().member(user) else { continue };
                prop_assert!(new.delivered >= old.delivered && new.read >= old.read && new.read_no >= old.read_no);
            }
        }
    }
}
