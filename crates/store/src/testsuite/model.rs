//! Random histories against a model: one that keeps everything in plain lists and counts again each time.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use tertulia_domain::conversation::Conversation;
use tertulia_domain::log::{Change, Commit, Intent, Outcome, Position, Receipt};
use tertulia_protocol::entry::{ConversationType, HistoryPolicy, Posting, Role};
use tertulia_protocol::rest::MemberSettingsPatch;
use tertulia_protocol::{Code, ConvoId, Entry, EntryKind, Seq, UserId};

use super::StoreUnderTest;
use super::world::*;
use crate::Slice;

const CASES: u32 = 24;
const USERS: [UserId; 4] = [ANA, BO, CY, DI];

pub async fn random_histories_agree_with_the_model<S: StoreUnderTest>() {
    let runtime = tokio::runtime::Handle::current();
    tokio::task::block_in_place(|| {
        let mut config = Config { max_shrink_iters: 200, failure_persistence: None, ..Config::default() };
        // Seconds by default; `PROPTEST_CASES=1000` for an evening.
        if std::env::var_os("PROPTEST_CASES").is_none() {
            config.cases = CASES;
        }
        let steps = prop::collection::vec(step(), 1..60);
        let result = TestRunner::new(config).run(&steps, |steps| {
            runtime.block_on(run::<S>(steps));
            Ok(())
        });
        if let Err(error) = result {
            panic!("{error}");
        }
    });
}

#[derive(Debug, Clone)]
enum Step {
    Append(Vec<Intent>),
    Look,
    Reopen,
    Crash,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        12 => prop::collection::vec(intent(), 1..8).prop_map(Step::Append),
        2 => Just(Step::Look),
        1 => Just(Step::Reopen),
        1 => Just(Step::Crash),
    ]
}

/// Two groups and a direct conversation.
fn any_convo() -> impl Strategy<Value = ConvoId> {
    prop_oneof![3 => Just(convo(1)), 2 => Just(convo(2)), 2 => Just(ConvoId::direct(ANA, BO))]
}

fn any_user() -> impl Strategy<Value = UserId> {
    prop_oneof![4 => Just(ANA), 3 => Just(BO), 2 => Just(CY), 1 => Just(DI)]
}

fn who() -> impl Strategy<Value = (ConvoId, UserId)> {
    (any_convo(), any_user())
}

fn any_of(texts: &'static [&'static str]) -> impl Strategy<Value = &'static str> {
    prop::sample::select(texts)
}

fn any_role() -> impl Strategy<Value = Role> {
    prop_oneof![Just(Role::Member), Just(Role::Admin), Just(Role::Owner)]
}

fn any_history() -> impl Strategy<Value = HistoryPolicy> {
    prop_oneof![Just(HistoryPolicy::SinceJoined), Just(HistoryPolicy::All)]
}

fn intent() -> impl Strategy<Value = Intent> {
    prop_oneof![
        2 => (1..=2_u16, any_user(), prop::sample::subsequence(&USERS, 0..=3), any_history()).prop_map(
            |(number, by, others, history)| {
                let others = others.into_iter().filter(|&user| user != by);
                let members: Vec<_> = std::iter::once(by).chain(others).collect();
                create_group(convo(number), &members, history)
            }
        ),
        1 => Just(create_direct(ANA, BO)),
        12 => (who(), 1..12_u64, any_of(&["a", "b"]), prop::option::weighted(0.2, 0..9_u64)).prop_map(
            |((convo, user), number, body, target)| reply(convo, user, number, body, target.map(Seq::new))
        ),
        6 => (who(), 0..14_u64, 0..14_u64).prop_map(|((convo, user), d, r)| mark(convo, user, d, r)),
        3 => (who(), prop::sample::subsequence(&USERS, 1..=3))
            .prop_map(|((convo, by), users)| Intent::AddMembers { convo, by, users }),
        3 => (who(), any_user()).prop_map(|((convo, by), user)| Intent::RemoveMember { convo, by, user }),
        3 => (who(), any_user(), any_role())
            .prop_map(|((convo, by), user, role)| set_role(convo, by, user, role)),
        1 => (who(), any_of(&["x", "y"])).prop_map(|((convo, by), title)| rename(convo, by, title)),
        1 => (who(), any::<bool>()).prop_map(|((convo, by), closed)| {
            set_posting(convo, by, if closed { Posting::Admins } else { Posting::All })
        }),
        1 => (who(), any_history()).prop_map(|((convo, by), history)| set_history(convo, by, history)),
        1 => (who(), any::<bool>()).prop_map(|((convo, user), pinned)| {
            set_own(convo, user, MemberSettingsPatch { pinned: Some(pinned), ..Default::default() })
        }),
        1 => (who(), any::<bool>()).prop_map(|((convo, by), blocked)| Intent::SetBlock { convo, by, blocked }),
    ]
}

async fn run<S: StoreUnderTest>(steps: Vec<Step>) {
    let mut world = World::<S>::new().await;
    let mut model = Model::default();
    for step in steps {
        match step {
            Step::Append(intents) => {
                // A lane each, so that each is one commit.
                for lane in 0..world.store().lanes().get() {
                    let mut intents = intents.clone();
                    intents.retain(|intent| world.store().lane_of(intent.convo()) == lane);
                    append(&mut world, &mut model, intents).await;
                }
            }
            Step::Look => look(&world, &model).await,
            Step::Reopen => world.reopen().await,
            Step::Crash => world.crash().await,
        }
    }
    look(&world, &model).await;
}

async fn append<S: StoreUnderTest>(world: &mut World<S>, model: &mut Model, intents: Vec<Intent>) {
    let horizon = world.horizon().await;
    let batch = world.append(intents.clone()).await;
    let commit = batch.commit.unwrap_or_default();
    if batch.commit.is_some() {
        assert!(!horizon.has(commit), "{commit:?} lies below {horizon:?}, which was told before");
        model.positions.push(world.before(commit).await);
    } else {
        model.positions.push(horizon);
    }
    for (intent, outcome) in intents.iter().zip(&batch.outcomes) {
        let expected = model.append(intent, commit);
        assert_eq!(short(outcome), expected, "{intent:?}");
        model.keep(outcome);
    }
}

/// An outcome as far as the model foretells it.
#[derive(Debug, PartialEq)]
enum Short {
    Entry(u64),
    Again(u64),
    Marked(u64, u64),
    Own,
    Unchanged,
    Refused(Code),
}

fn short(outcome: &Outcome) -> Short {
    match outcome {
        Outcome::Appended { entry, .. } => Short::Entry(entry.seq.get()),
        Outcome::Duplicate(entry) => Short::Again(entry.seq.get()),
        Outcome::Marked(receipt) => Short::Marked(receipt.delivered.get(), receipt.read.get()),
        Outcome::OwnChanged { .. } => Short::Own,
        Outcome::Unchanged => Short::Unchanged,
        Outcome::Refused(refusal) => Short::Refused(refusal.code()),
    }
}

#[derive(Default)]
struct Model {
    /// Of each batch the position before its commit, or where there is none the horizon.
    positions: Vec<Position>,
    convos: BTreeMap<ConvoId, ModelConvo>,
}

/// A conversation in plain lists.
struct ModelConvo {
    is_direct: bool,
    title: Option<String>,
    posting: Posting,
    history: HistoryPolicy,
    /// Each entry's commit, and the sender if it is a message.
    log: Vec<(Commit, Option<UserId>)>,
    /// What the store gave out.
    entries: Vec<Arc<Entry>>,
    /// In the order of joining.
    members: Vec<ModelMember>,
    sent: BTreeMap<(UserId, u64), (u64, String, Option<Seq>)>,
    blocks: BTreeSet<UserId>,
    /// When a user went out, and is not in again.
    left: BTreeMap<UserId, Commit>,
}

#[derive(Clone)]
struct ModelMember {
    user: UserId,
    role: Role,
    joined: (u64, Commit),
    visible_from: u64,
    delivered: u64,
    read: u64,
    pinned: bool,
    /// When they moved, and when settings changed.
    marked: Option<Commit>,
    received: Option<Commit>,
    own: Option<Commit>,
}

impl Model {
    /// What the store must answer; the model has done it then.
    fn append(&mut self, intent: &Intent, commit: Commit) -> Short {
        let id = intent.convo();
        if let Intent::Create { by, kind, members, history, .. } = intent {
            if let Some(convo) = self.convos.get(&id) {
                let may =
                    convo.is_direct || convo.member(*by).is_some_and(|member| member.role == Role::Owner);
                return if may { Short::Unchanged } else { Short::Refused(Code::Conflict) };
            }
            let is_direct = *kind == ConversationType::Direct;
            let mut convo = ModelConvo {
                is_direct,
                title: None,
                posting: Posting::All,
                history: *history,
                log: vec![(commit, None)],
                entries: Vec::new(),
                members: Vec::new(),
                sent: BTreeMap::new(),
                blocks: BTreeSet::new(),
                left: BTreeMap::new(),
            };
            convo.join(members, 1, commit);
            if !is_direct {
                convo.members[0].role = Role::Owner;
            }
            self.convos.insert(id, convo);
            return Short::Entry(1);
        }
        match (self.convos.get_mut(&id), intent) {
            (Some(convo), _) => convo.append(intent, commit),
            (None, Intent::SetBlock { .. }) => Short::Unchanged,
            (None, _) => Short::Refused(Code::NotFound),
        }
    }

    fn keep(&mut self, outcome: &Outcome) {
        if let Outcome::Appended { entry, .. } = outcome {
            self.convos.get_mut(&entry.convo_id).unwrap().entries.push(entry.clone());
        }
    }
}

impl ModelConvo {
    fn member(&self, user: UserId) -> Option<&ModelMember> {
        self.members.iter().find(|member| member.user == user)
    }

    fn head(&self) -> u64 {
        self.log.len() as u64
    }

    fn entry(&mut self, commit: Commit, sender: Option<UserId>) -> Short {
        self.log.push((commit, sender));
        Short::Entry(self.head())
    }

    fn join(&mut self, users: &[UserId], visible_from: u64, commit: Commit) {
        let head = self.head();
        for &user in users {
            let joined = (head, commit);
            let (delivered, read, role) = (head, head, Role::Member);
            let member = ModelMember {
                user,
                role,
                joined,
                visible_from,
                delivered,
                read,
                pinned: false,
                marked: None,
                received: None,
                own: None,
            };
            self.members.push(member);
            self.left.remove(&user);
        }
    }

    fn append(&mut self, intent: &Intent, commit: Commit) -> Short {
        let (by, least) = match *intent {
            Intent::Create { .. } => unreachable!("it was answered before"),
            Intent::Send { sender, .. } => (sender, None),
            Intent::Mark { user, .. } | Intent::SetOwn { user, .. } => (user, None),
            Intent::SetBlock { by, .. } => (by, None),
            Intent::SetRole { by, .. } => (by, Some(Role::Owner)),
            Intent::RemoveMember { by, user, .. } if by == user => (by, Some(Role::Member)),
            Intent::AddMembers { by, .. }
            | Intent::RemoveMember { by, .. }
            | Intent::Rename { by, .. }
            | Intent::ChangeSettings { by, .. } => (by, Some(Role::Admin)),
        };
        let Some(actor) = self.member(by).cloned() else { return Short::Refused(Code::NotFound) };
        // Every intent that needs a role is for groups.
        if least.is_some_and(|least| self.is_direct || actor.role < least) {
            return Short::Refused(Code::Forbidden);
        }
        match intent {
            Intent::Send { client_seq, body, reply_to, .. } => {
                self.send(&actor, client_seq.get(), body, *reply_to, commit)
            }
            Intent::Mark { delivered, read, .. } => self.mark(&actor, *delivered, *read, commit),
            Intent::AddMembers { users, .. } => {
                let users: Vec<_> =
                    users.iter().copied().filter(|&user| self.member(user).is_none()).collect();
                if users.is_empty() {
                    return Short::Unchanged;
                }
                let short = self.entry(commit, None);
                let visible_from = if self.history == HistoryPolicy::All { 1 } else { self.head() };
                self.join(&users, visible_from, commit);
                short
            }
            Intent::RemoveMember { user, .. } => {
                let Some(target) = self.member(*user) else { return Short::Refused(Code::NotFound) };
                if by != *user && actor.role != Role::Owner && target.role != Role::Member {
                    return Short::Refused(Code::Forbidden);
                }
                self.members.retain(|member| member.user != *user);
                self.left.insert(*user, commit);
                if self.members.iter().all(|member| member.role != Role::Owner) {
                    let admin = self.members.iter().position(|member| member.role == Role::Admin);
                    if let Some(heir) = self.members.get_mut(admin.unwrap_or(0)) {
                        heir.role = Role::Owner;
                    }
                }
                self.entry(commit, None)
            }
            Intent::SetRole { user, role, .. } => {
                let owners = self.members.iter().filter(|member| member.role == Role::Owner).count();
                let Some(target) = self.members.iter_mut().find(|member| member.user == *user) else {
                    return Short::Refused(Code::NotFound);
                };
                if target.role == *role {
                    return Short::Unchanged;
                }
                if target.role == Role::Owner && owners == 1 {
                    return Short::Refused(Code::Conflict);
                }
                target.role = *role;
                self.entry(commit, None)
            }
            Intent::Rename { title, .. } => {
                if self.title.as_ref() == Some(title) {
                    return Short::Unchanged;
                }
                self.title = Some(title.clone());
                self.entry(commit, None)
            }
            Intent::ChangeSettings { posting, history, .. } => {
                let before = (self.posting, self.history);
                self.posting = posting.unwrap_or(self.posting);
                self.history = history.unwrap_or(self.history);
                if before == (self.posting, self.history) {
                    return Short::Unchanged;
                }
                self.entry(commit, None)
            }
            Intent::SetOwn { patch, .. } => {
                let pinned = patch.pinned.unwrap_or(actor.pinned);
                if pinned == actor.pinned {
                    return Short::Unchanged;
                }
                let member = self.members.iter_mut().find(|member| member.user == by).unwrap();
                (member.pinned, member.own) = (pinned, Some(commit));
                Short::Own
            }
            Intent::SetBlock { blocked, .. } => {
                if self.is_direct && *blocked {
                    self.blocks.insert(by);
                } else {
                    self.blocks.remove(&by);
                }
                Short::Unchanged
            }
            Intent::Create { .. } => unreachable!("it was answered before"),
        }
    }

    fn send(
        &mut self,
        actor: &ModelMember,
        number: u64,
        body: &str,
        target: Option<Seq>,
        commit: Commit,
    ) -> Short {
        if let Some((seq, first, first_target)) = self.sent.get(&(actor.user, number)) {
            let is_same = first == body && *first_target == target;
            return if is_same { Short::Again(*seq) } else { Short::Refused(Code::Conflict) };
        }
        if !self.blocks.is_empty() || (self.posting == Posting::Admins && actor.role == Role::Member) {
            return Short::Refused(Code::Forbidden);
        }
        if target.is_some_and(|target| target.get() < actor.visible_from || target.get() > self.head()) {
            return Short::Refused(Code::Invalid);
        }
        let short = self.entry(commit, Some(actor.user));
        let head = self.head();
        self.sent.insert((actor.user, number), (head, body.into(), target));
        let member = self.members.iter_mut().find(|member| member.user == actor.user).unwrap();
        (member.delivered, member.read, member.marked) = (head, head, Some(commit));
        member.received = Some(commit);
        short
    }

    fn mark(
        &mut self,
        actor: &ModelMember,
        delivered: Option<Seq>,
        read: Option<Seq>,
        commit: Commit,
    ) -> Short {
        let head = self.head();
        let (delivered, read) = (delivered.map_or(0, Seq::get), read.map_or(0, Seq::get));
        if delivered.max(read) > head {
            return Short::Refused(Code::Invalid);
        }
        let read = read.max(actor.read);
        let delivered = delivered.max(actor.delivered).max(read);
        if (delivered, read) == (actor.delivered, actor.read) {
            return Short::Unchanged;
        }
        let member = self.members.iter_mut().find(|member| member.user == actor.user).unwrap();
        if delivered > member.delivered {
            member.received = Some(commit);
        }
        (member.delivered, member.read, member.marked) = (delivered, read, Some(commit));
        Short::Marked(delivered, read)
    }
}

/// Everything that can be read is as the model has it.
async fn look<S: StoreUnderTest>(world: &World<S>, model: &Model) {
    for user in USERS {
        let mut inbox = Vec::new();
        for (&id, convo) in &model.convos {
            match convo.member(user) {
                Some(member) => {
                    look_at(world, user, id, convo, member).await;
                    inbox.push(id);
                }
                None => {
                    assert_eq!(world.log(user, id).await, "-");
                    assert_eq!(world.store().conversation(user, id).await.unwrap(), None);
                }
            }
        }
        let page = world.store().inbox(user, None, 200).await.unwrap();
        assert!(page.items.is_sorted_by(|a, b| (a.updated_at, a.id) > (b.updated_at, b.id)));
        let mut found: Vec<_> = page.items.iter().map(|item| item.id).collect();
        found.sort();
        assert_eq!(found, inbox);
        look_at_changes(world, user, model).await;
    }
}

async fn look_at<S: StoreUnderTest>(
    world: &World<S>,
    user: UserId,
    id: ConvoId,
    convo: &ModelConvo,
    member: &ModelMember,
) {
    let store = world.store();
    // The log: dense, from where he sees it, with the commits that were told.
    let page = store.history(user, id, Slice::After(Seq::default()), 1_000).await.unwrap().unwrap();
    let expected = convo.entries.iter().zip(&convo.log).skip(member.visible_from as usize - 1);
    let expected: Vec<_> = expected.map(|(entry, &(commit, _))| (entry.clone(), commit)).collect();
    assert_eq!(page.entries, expected);
    assert!(!page.has_more);

    // Unread is a recount.
    let seen = world.see(user, id).await;
    let messages = |from: u64| convo.log[from as usize..].iter().filter_map(|&(_, sender)| sender);
    assert_eq!(seen.unread_count, messages(member.read).filter(|&sender| sender != user).count() as u64);
    assert_eq!((seen.delivered_seq.get(), seen.read_seq.get()), (member.delivered, member.read));
    assert_eq!((seen.last_seq.get(), seen.visible_from_seq.get()), (convo.head(), member.visible_from));
    assert_eq!((seen.role, seen.member_count), (member.role, convo.members.len() as u64));
    assert_eq!((&seen.title, seen.posting, seen.history), (&convo.title, convo.posting, convo.history));
    assert_eq!(seen.settings.pinned, member.pinned);
    let newest = convo.entries.iter().rev().find(|entry| entry.kind.is_message());
    let newest = newest.filter(|entry| entry.seq >= seen.visible_from_seq);
    assert_eq!(seen.last_message.as_ref(), newest.map(Arc::as_ref));

    // Members, as the list has them and as the log alone gives them.
    let listed = store.members(user, id, None, 200).await.unwrap().unwrap();
    let listed: Vec<_> = listed.items.iter().map(|member| (member.user_id, member.role)).collect();
    let expected: Vec<_> = convo.members.iter().map(|member| (member.user, member.role)).collect();
    assert_eq!(listed, expected);
    let mut folded = Conversation::begun(&convo.entries[0]).unwrap();
    for entry in &convo.entries[1..] {
        folded.fold(entry);
    }
    let mut members: Vec<_> = folded.members().collect();
    members.sort_by_key(|(_, member)| member.joined_no);
    assert_eq!(members.iter().map(|(user, member)| (*user, member.role)).collect::<Vec<_>>(), expected);
    assert_eq!(folded.summary().title, convo.title);
    assert_eq!(folded.member(user).unwrap().visible_from.get(), member.visible_from);

    // Receipts say the same as watermarks.
    for entry in convo.entries.iter().filter(|entry| matches!(entry.kind, EntryKind::Text { .. })) {
        let receipts = store.message_receipts(user, id, entry.seq, None, 1_000).await.unwrap();
        let receipts = receipts.map(|page| page.items);
        let seq = entry.seq.get();
        if seq < member.visible_from {
            assert_eq!(receipts, None);
            continue;
        }
        let found: Vec<_> = receipts
            .unwrap()
            .iter()
            .map(|receipt| (receipt.user_id, receipt.delivered_at.is_some(), receipt.seen_at.is_some()))
            .collect();
        let others = convo.members.iter().filter(|other| other.user != entry.sender_id);
        let expected: Vec<_> = others
            .filter(|other| other.visible_from <= seq)
            .map(|other| (other.user, other.delivered >= seq, other.read >= seq))
            .collect();
        assert_eq!(found, expected);
    }
}

async fn look_at_changes<S: StoreUnderTest>(world: &World<S>, user: UserId, model: &Model) {
    let positions = &model.positions;
    let newest = positions.iter().rev().take(3).copied();
    let sinces = newest
        .chain([Position::default(), world.horizon().await])
        .chain(positions.get(positions.len() / 2).copied());
    for since in sinces {
        let mut found: BTreeMap<_, _> = BTreeMap::new();
        for change in world.changes(user, since).await {
            match change {
                Change::Left(id) => found.insert(id, None),
                Change::In { convo, joined, first_missed, own, receipts, .. } => {
                    let short =
                        |r: &Receipt| (r.user, r.delivered.get(), r.read.get(), r.delivered_at.is_some());
                    let mut receipts: Vec<_> = receipts.iter().map(short).collect();
                    receipts.sort();
                    found.insert(convo, Some((joined, first_missed.map(Seq::get), own.is_some(), receipts)))
                }
            };
        }
        for (id, convo) in &model.convos {
            let expected = match convo.member(user) {
                None => convo.left.get(&user).filter(|&&commit| !since.has(commit)).map(|_| None),
                Some(member) => {
                    let first = (member.joined.0..=convo.head())
                        .find(|&seq| !since.has(convo.log[seq as usize - 1].0));
                    let is_since = |commit: Option<Commit>| commit.is_some_and(|commit| !since.has(commit));
                    let mut receipts: Vec<_> = convo
                        .members
                        .iter()
                        .filter(|other| is_since(other.marked))
                        .map(|other| (other.user, other.delivered, other.read, is_since(other.received)))
                        .collect();
                    receipts.sort();
                    let (joined, own) = (!since.has(member.joined.1), is_since(member.own));
                    let changed = joined || own || first.is_some() || !receipts.is_empty();
                    changed.then_some(Some((joined, first, own, receipts)))
                }
            };
            assert_eq!(found.remove(id), expected, "{since:?}");
        }
        assert!(found.is_empty(), "{found:?}");
    }
}
