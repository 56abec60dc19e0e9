//! The service over its real store, with a clock that the tests move.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tertulia_protocol::rest::{
    Audience, DeviceInfo, Login, Privacy, PrivacyPatch, Refresh, Register, Session, UserPatch,
};
use tertulia_protocol::{Code, DeviceId, Timestamp, UserId};
use tertulia_store::accounts::{EmbeddedAccounts, SigningKey};

use super::*;
use crate::clock::{Clock, ClockHand, Random};
use crate::limits::Limits;

const HERE: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));
const MINUTE: Duration = Duration::from_secs(60);
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// Remembers what it hears.
#[derive(Default)]
pub(crate) struct Heard {
    revoked: Mutex<Vec<(UserId, DeviceId)>>,
    privacy: Mutex<Vec<(UserId, Privacy)>>,
}

impl SessionEvents for Heard {
    fn revoked(&self, user: UserId, device: DeviceId) {
        self.revoked.lock().unwrap().push((user, device));
    }

    fn block_changed(&self, _: UserId, _: UserId) {}

    fn privacy_changed(&self, user: UserId, privacy: Privacy) {
        self.privacy.lock().unwrap().push((user, privacy));
    }
}

/// A service on a folder of its own.
pub(crate) struct World {
    pub(crate) accounts: AccountsService,
    pub(crate) limits: Limits,
    pub(crate) clock: Clock,
    pub(crate) hand: ClockHand,
    heard: Arc<Heard>,
    dir: tempfile::TempDir,
}

/// Hashes that cost nearly nothing.
pub(crate) const CHEAP: PasswordConfig =
    PasswordConfig { memory_kib: 8, passes: 1, threads: 1, queue_max: 256 };

impl World {
    pub(crate) fn new() -> Self {
        Self::with(Limits::off(), CHEAP)
    }

    pub(crate) fn with(limits: Limits, passwords: PasswordConfig) -> Self {
        let (clock, hand) = Clock::manual();
        let dir = tempfile::tempdir().unwrap();
        let heard = Arc::new(Heard::default());
        let accounts = start(&dir, &heard, &limits, &clock, passwords);
        Self { accounts, limits, clock, hand, heard, dir }
    }

    /// The same data under a new service, as after a restart of the process.
    async fn restarted(self, passwords: PasswordConfig) -> Self {
        self.accounts.close().await;
        let accounts = start(&self.dir, &self.heard, &self.limits, &self.clock, passwords);
        Self { accounts, ..self }
    }

    async fn register(&self, username: &str) -> Session {
        self.accounts.register(register(username), HERE).await.unwrap()
    }

    fn revoked(&self) -> Vec<DeviceId> {
        self.heard.revoked.lock().unwrap().iter().map(|&(_, device)| device).collect()
    }

    async fn is_known(&self, session: &Session) -> bool {
        match self.accounts.authenticate(&session.access_token).await {
            Ok(identity) => {
                assert_eq!((identity.user, identity.device), (session.user.id, session.device_id));
                true
            }
            Err(AuthError::Unauthenticated) => false,
            Err(AuthError::Store(error)) => panic!("{error}"),
        }
    }
}

fn start(
    dir: &tempfile::TempDir,
    heard: &Arc<Heard>,
    limits: &Limits,
    clock: &Clock,
    passwords: PasswordConfig,
) -> AccountsService {
    let store = EmbeddedAccounts::open(dir.path(), SigningKey::new([7; 32])).unwrap();
    let (limits, clock) = (limits.clone(), clock.clone());
    let events = Arc::clone(heard) as _;
    let random = Random::system();
    AccountsService::start(AccountsConfig {
        store: Arc::new(store),
        events,
        limits,
        clock,
        random,
        passwords,
    })
    .unwrap()
}

fn register(username: &str) -> Register {
    let password = "correct horse".into();
    Register { username: username.into(), password, display_name: None, device: None }
}

fn login(username: &str, password: &str) -> Login {
    let device = DeviceInfo { name: "Ana's phone".into(), platform: "android".into() };
    Login { username: username.into(), password: password.into(), device: Some(device) }
}

fn refresh(session: &Session) -> Refresh {
    Refresh { refresh_token: session.refresh_token.clone() }
}

fn identity(session: &Session) -> Identity {
    Identity { user: session.user.id, device: session.device_id }
}

#[tokio::test]
async fn who_registers_is_logged_in_and_a_username_is_taken_in_any_case() {
    let world = World::new();
    let ana = world.register("Ana.B").await;
    assert_eq!((ana.user.username.as_str(), ana.user.display_name.as_str()), ("ana.b", "ana.b"));
    assert_eq!(ana.expires_at, world.clock.now().plus(15 * MINUTE));
    assert!(world.is_known(&ana).await);
    let again = world.accounts.register(register("ANA.b"), HERE).await;
    assert!(matches!(again, Err(RegisterError::UsernameTaken(name)) if name == "ana.b"));
}

#[tokio::test]
async fn of_two_who_register_a_username_at_once_one_gets_it() {
    let world = World::new();
    let take = || world.accounts.register(register("ana"), HERE);
    let (one, two) = tokio::join!(take(), take());
    let taken =
        |result: &Result<Session, RegisterError>| matches!(result, Err(RegisterError::UsernameTaken(_)));
    assert!(one.is_ok() != two.is_ok());
    assert!(taken(&one) != taken(&two));
}

#[tokio::test]
async fn what_breaks_a_rule_is_not_registered() {
    let world = World::new();
    let invalid = [
        Register { username: "a b".into(), ..register("ana") },
        Register { password: "short".into(), ..register("ana") },
        Register { password: "x".repeat(257), ..register("ana") },
        Register { display_name: Some(String::new()), ..register("ana") },
        Register {
            device: Some(DeviceInfo { name: "x".repeat(65), ..DeviceInfo::default() }),
            ..register("ana")
        },
    ];
    for register in invalid {
        let refused = world.accounts.register(register, HERE).await;
        assert!(matches!(refused, Err(RegisterError::Invalid(violation)) if violation.code == Code::Invalid));
    }
    world.register("ana").await;
}

#[tokio::test]
async fn a_login_is_a_new_device_and_the_old_ones_stay() {
    let world = World::new();
    let first = world.register("ana").await;
    world.hand.advance(MINUTE);
    let second = world.accounts.login(login("ANA", "correct horse"), HERE).await.unwrap();
    assert_eq!(second.user, first.user);
    assert_ne!(second.device_id, first.device_id);
    assert!(world.is_known(&first).await && world.is_known(&second).await);
    let devices = world.accounts.sessions(identity(&second)).await.unwrap().items;
    let shown: Vec<_> =
        devices.iter().map(|device| (device.device_id, device.name.as_str(), device.current)).collect();
    assert_eq!(shown, [(first.device_id, "", false), (second.device_id, "Ana's phone", true)]);
}

#[tokio::test]
async fn an_unknown_user_and_a_wrong_password_get_the_same_answer() {
    let world = World::new();
    world.register("ana").await;
    let mut answers = Vec::new();
    for (username, password) in
        [("ana", "wrong horse"), ("nobody", "correct horse"), ("no such name!", "x"), ("", "")]
    {
        let Err(error) = world.accounts.login(login(username, password), HERE).await else {
            panic!("{username}")
        };
        answers.push((error.to_string(), crate::rest::problem::ApiError::from(error)));
    }
    answers.dedup();
    assert_eq!(answers.len(), 1);
    assert_eq!(answers[0].1.code(), Code::Unauthenticated);
}

/// A hash dwarfs everything else in a login, so the number of hashes, all of one cost, is its time.
#[tokio::test]
async fn an_unknown_user_and_a_wrong_password_cost_the_same_work() {
    let world = World::new();
    world.register("ana").await;
    let hashed = || world.accounts.inner.passwords.figures().0;
    for username in ["ana", "nobody", "no such name!"] {
        let before = hashed();
        assert!(world.accounts.login(login(username, "wrong horse"), HERE).await.is_err());
        assert_eq!(hashed() - before, 1, "{username}");
    }
}

#[tokio::test]
async fn a_password_is_hashed_anew_when_the_cost_has_changed() {
    let world = World::new();
    world.register("ana").await;
    let dearer = PasswordConfig { passes: 2, ..CHEAP };
    let world = world.restarted(dearer).await;
    let hash = async |world: &World| {
        world.accounts.inner.store.credentials("ana").await.unwrap().unwrap().password_hash
    };
    let before = hash(&world).await;
    assert!(before.starts_with("$argon2id$v=19$m=8,t=1,p=1$"), "{before}");
    assert!(world.accounts.login(login("ana", "wrong horse"), HERE).await.is_err());
    assert_eq!(hash(&world).await, before);
    world.accounts.login(login("ana", "correct horse"), HERE).await.unwrap();
    let after = hash(&world).await;
    assert!(after.starts_with("$argon2id$v=19$m=8,t=2,p=1$"), "{after}");
    world.accounts.login(login("ana", "correct horse"), HERE).await.unwrap();
    assert_eq!(hash(&world).await, after);
}

#[tokio::test]
async fn an_access_token_ends_after_15_minutes() {
    let world = World::new();
    let ana = world.register("ana").await;
    world.hand.advance(15 * MINUTE - Duration::from_millis(1));
    assert!(world.is_known(&ana).await);
    world.hand.advance(Duration::from_millis(1));
    assert!(!world.is_known(&ana).await);
}

#[tokio::test]
async fn tokens_survive_a_restart() {
    let world = World::new();
    let ana = world.register("ana").await;
    let resume = world.accounts.resume_token(identity(&ana));
    let world = world.restarted(CHEAP).await;
    assert!(world.is_known(&ana).await);
    assert_eq!(world.accounts.authenticate_resume(&resume).await.unwrap(), identity(&ana));
    world.accounts.refresh(&refresh(&ana)).await.unwrap();
}

#[tokio::test]
async fn what_is_no_token_is_refused() {
    let world = World::new();
    let ana = world.register("ana").await;
    let resume = world.accounts.resume_token(identity(&ana));
    for text in ["", "x", &ana.refresh_token, &resume, &ana.access_token[1..], &"A".repeat(64)] {
        let refused = world.accounts.authenticate(text).await;
        assert!(matches!(refused, Err(AuthError::Unauthenticated)), "{text}");
    }
    for text in ["", "x", &ana.refresh_token, &ana.access_token, &"A".repeat(87)] {
        let refused = world.accounts.authenticate_resume(text).await;
        assert!(matches!(refused, Err(AuthError::Unauthenticated)), "{text}");
    }
    for text in ["", "x", &ana.access_token, &resume, &"A".repeat(96)] {
        let refused = world.accounts.refresh(&Refresh { refresh_token: text.into() }).await;
        assert!(matches!(refused, Err(RefreshError::Unauthenticated)), "{text}");
    }
    assert!(world.is_known(&ana).await);
}

#[tokio::test]
async fn a_refresh_gives_the_next_pair_and_ends_neither_the_device_nor_its_access_token() {
    let world = World::new();
    let first = world.register("ana").await;
    world.hand.advance(5 * MINUTE);
    let second = world.accounts.refresh(&refresh(&first)).await.unwrap();
    assert_eq!((second.device_id, &second.user), (first.device_id, &first.user));
    assert_eq!(second.expires_at, world.clock.now().plus(15 * MINUTE));
    assert!(world.is_known(&first).await && world.is_known(&second).await);
    world.hand.advance(10 * MINUTE);
    assert!(!world.is_known(&first).await && world.is_known(&second).await);
    let third = world.accounts.refresh(&refresh(&second)).await.unwrap();
    assert!(world.is_known(&third).await);
    assert_eq!(world.revoked(), []);
}

#[tokio::test]
async fn a_refresh_token_used_again_revokes_its_device_alone() {
    let world = World::new();
    let first = world.register("ana").await;
    let other = world.accounts.login(login("ana", "correct horse"), HERE).await.unwrap();
    let second = world.accounts.refresh(&refresh(&first)).await.unwrap();
    assert!(world.is_known(&second).await);
    let reused = world.accounts.refresh(&refresh(&first)).await;
    assert!(matches!(reused, Err(RefreshError::Reused)));
    assert_eq!(world.revoked(), [first.device_id]);
    assert!(!world.is_known(&first).await && !world.is_known(&second).await);
    let newest = world.accounts.refresh(&refresh(&second)).await;
    assert!(matches!(newest, Err(RefreshError::Unauthenticated)));
    assert!(world.is_known(&other).await);
}

#[tokio::test]
async fn of_two_refreshes_with_one_token_one_wins_and_the_other_is_a_reuse() {
    let world = World::new();
    let ana = world.register("ana").await;
    let token = refresh(&ana);
    let (one, two) = tokio::join!(world.accounts.refresh(&token), world.accounts.refresh(&token));
    assert!(one.is_ok() != two.is_ok());
    let reused = |result: &Result<Session, RefreshError>| matches!(result, Err(RefreshError::Reused));
    assert!(reused(&one) || reused(&two));
    assert_eq!(world.revoked(), [ana.device_id]);
    let winner = one.or(two).ok().unwrap();
    assert!(!world.is_known(&winner).await);
}

#[tokio::test]
async fn a_caller_who_hangs_up_does_not_stop_a_revocation() {
    let world = World::new();
    let ana = world.register("ana").await;
    world.accounts.refresh(&refresh(&ana)).await.unwrap();
    assert!(world.is_known(&ana).await);
    let token = refresh(&ana);
    {
        let hung_up = world.accounts.refresh(&token);
        tokio::pin!(hung_up);
        // Polled once: the work has begun.
        assert!(futures_util::poll!(&mut hung_up).is_pending());
    }
    for _ in 0..1_000 {
        if !world.revoked().is_empty() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(world.revoked(), [ana.device_id]);
    assert!(!world.is_known(&ana).await);
}

#[tokio::test]
async fn a_device_that_does_not_refresh_ends_after_90_days() {
    let world = World::new();
    let ana = world.register("ana").await;
    let resume = world.accounts.resume_token(identity(&ana));
    world.hand.advance(90 * DAY - MINUTE);
    assert!(world.accounts.authenticate_resume(&resume).await.is_ok());
    world.accounts.flush().await.unwrap();
    assert_eq!(world.revoked(), []);
    world.hand.advance(MINUTE);
    assert!(world.accounts.authenticate_resume(&resume).await.is_err());
    assert!(world.accounts.refresh(&refresh(&ana)).await.is_err());
    world.accounts.flush().await.unwrap();
    assert_eq!(world.revoked(), [ana.device_id]);
}

#[tokio::test]
async fn a_revoked_device_is_refused_at_once_and_told() {
    let world = World::new();
    let ana = world.register("ana").await;
    let other = world.accounts.login(login("ana", "correct horse"), HERE).await.unwrap();
    let resume = world.accounts.resume_token(identity(&other));
    assert!(world.is_known(&other).await);
    world.accounts.revoke(identity(&ana), other.device_id).await.unwrap();
    assert_eq!(world.revoked(), [other.device_id]);
    assert!(!world.is_known(&other).await);
    assert!(world.accounts.recheck(identity(&other)).await.is_err());
    assert!(world.accounts.authenticate_resume(&resume).await.is_err());
    assert!(world.accounts.refresh(&refresh(&other)).await.is_err());
    let again = world.accounts.revoke(identity(&ana), other.device_id).await;
    assert!(matches!(again, Err(RevokeError::NotFound)));
    world.accounts.logout(identity(&ana)).await.unwrap();
    assert!(!world.is_known(&ana).await);
    assert_eq!(world.revoked(), [other.device_id, ana.device_id]);
}

#[tokio::test]
async fn nobody_revokes_the_device_of_another() {
    let world = World::new();
    let (ana, bo) = (world.register("ana").await, world.register("bobo").await);
    let refused = world.accounts.revoke(identity(&bo), ana.device_id).await;
    assert!(matches!(refused, Err(RevokeError::NotFound)));
    assert!(world.is_known(&ana).await);
    assert_eq!(world.revoked(), []);
}

#[tokio::test]
async fn logins_are_limited_by_user_and_by_address_before_any_hash() {
    let world = World::with(Limits::default(), CHEAP);
    let try_login = async |username: &str, from: IpAddr| match world
        .accounts
        .login(login(username, "wrong horse"), from)
        .await
    {
        Err(LoginError::Limited(wait)) => Some(wait),
        _ => None,
    };
    let from = |n: u8| IpAddr::from([192, 0, 2, n]);
    // By user, whether or not he is there, in any case, from one address, ...
    for _ in 0..10 {
        assert_eq!(try_login("ana", from(0)).await, None);
    }
    assert_eq!(try_login("ANA", from(0)).await, Some(Duration::from_secs(6)));
    assert_eq!(try_login("bobo", from(0)).await, None);
    // ... and ten times as much from all together.
    for n in 10..100 {
        assert_eq!(try_login("ana", from(n)).await, None);
    }
    assert_eq!(try_login("Ana", from(100)).await, Some(Duration::from_millis(600)));
    assert_eq!(try_login("bobo", from(100)).await, None);
    world.hand.advance(Duration::from_millis(600));
    assert_eq!(try_login("ana", from(101)).await, None);
    // By address, whomever it tries.
    for n in 0..60 {
        assert_eq!(try_login(&format!("user{n}"), from(200)).await, None);
    }
    assert_eq!(try_login("user60", from(200)).await, Some(Duration::from_secs(1)));
}

#[tokio::test]
async fn wrong_logins_from_one_address_do_not_stop_the_right_one_from_another() {
    let world = World::with(Limits::default(), CHEAP);
    world.register("ana").await;
    let (stranger, home) = (IpAddr::from([198, 51, 100, 1]), IpAddr::from([192, 0, 2, 2]));
    // As fast as he may, and faster, for ten minutes.
    for number in 0..610 {
        world.hand.advance(Duration::from_secs(u64::from(number < 600)));
        let refused = world.accounts.login(login("ana", "wrong horse"), stranger).await;
        assert!(matches!(refused, Err(LoginError::WrongCredentials | LoginError::Limited(_))));
    }
    let stopped = world.accounts.login(login("ana", "correct horse"), stranger).await;
    assert!(matches!(stopped, Err(LoginError::Limited(_))));
    world.accounts.login(login("ana", "correct horse"), home).await.unwrap();
}

#[tokio::test]
async fn registrations_are_limited_by_address_and_invalid_ones_do_not_count() {
    let world = World::with(Limits::default(), CHEAP);
    for _ in 0..30 {
        assert!(world.accounts.register(register("!"), HERE).await.is_err());
    }
    for n in 0..20 {
        world.register(&format!("user{n}")).await;
    }
    let refused = world.accounts.register(register("user20"), HERE).await;
    assert!(matches!(refused, Err(RegisterError::Limited(wait)) if wait == 3 * MINUTE));
    let elsewhere = IpAddr::from([192, 0, 2, 2]);
    assert!(world.accounts.register(register("user20"), elsewhere).await.is_ok());
}

#[tokio::test]
async fn when_too_many_passwords_wait_the_next_is_told_to_come_back() {
    // A hash takes long enough here that none is done before all have asked.
    let world = World::with(
        Limits::off(),
        PasswordConfig { memory_kib: 64 * 1_024, passes: 3, threads: 1, queue_max: 2 },
    );
    let logins = (0..8).map(|_| world.accounts.login(login("nobody", "wrong horse"), HERE));
    let outcomes = futures_util::future::join_all(logins).await;
    let busy = outcomes.iter().filter(|outcome| {
        matches!(outcome, Err(LoginError::Trouble(Trouble::Busy { retry_after })) if !retry_after.is_zero())
    });
    let refused = outcomes.iter().filter(|outcome| matches!(outcome, Err(LoginError::WrongCredentials)));
    let (busy, refused) = (busy.count(), refused.count());
    assert!(busy >= 4 && refused >= 2 && busy + refused == 8, "{busy} busy, {refused} refused");
}

#[tokio::test]
async fn a_profile_is_changed_and_shows_others_no_settings() {
    let world = World::new();
    let ana = world.register("ana").await.user;
    let hide = PrivacyPatch { last_seen: None, read_receipts: Some(Audience::Nobody) };
    let patch =
        UserPatch { display_name: Some("Ana Ñ".into()), about: Some("hi".into()), privacy: Some(hide) };
    let patched = world.accounts.update(ana.id, patch).await.unwrap();
    let privacy = Privacy { last_seen: Audience::Everyone, read_receipts: Audience::Nobody };
    assert_eq!((patched.display_name.as_str(), patched.about.as_str()), ("Ana Ñ", "hi"));
    assert_eq!(patched.privacy, Some(privacy));
    assert_eq!(world.accounts.me(ana.id).await.unwrap(), patched);
    let seen_by_others = world.accounts.user(ana.id).await.unwrap();
    assert_eq!(seen_by_others, tertulia_protocol::rest::User { privacy: None, ..patched });
    assert_eq!(*world.heard.privacy.lock().unwrap(), [(ana.id, privacy)]);
    let bad = UserPatch { about: Some("x".repeat(1_025)), ..UserPatch::default() };
    assert!(matches!(world.accounts.update(ana.id, bad).await, Err(ProfileError::Invalid(_))));
    let nobody = UserId::from_bytes([9; 16]);
    assert!(matches!(world.accounts.user(nobody).await, Err(ProfileError::NotFound)));
}

#[tokio::test]
async fn changed_privacy_is_seen_at_once_although_it_was_remembered() {
    let world = World::new();
    let (ana, bo) = (world.register("ana").await.user.id, world.register("bobo").await.user.id);
    let nobody = UserId::from_bytes([9; 16]);
    let all = [ana, nobody, bo];
    assert!(world.accounts.hiding_read(&all).await.unwrap().is_empty());
    for (audience, hiding) in [(Audience::Nobody, vec![ana]), (Audience::Everyone, vec![])] {
        let privacy = Some(PrivacyPatch { last_seen: Some(audience), read_receipts: Some(audience) });
        world.accounts.update(ana, UserPatch { privacy, ..UserPatch::default() }).await.unwrap();
        assert_eq!(world.accounts.hiding_read(&all).await.unwrap(), hiding.into_iter().collect());
        assert_eq!(world.accounts.privacy(ana).await.unwrap().last_seen, audience);
    }
    assert_eq!(world.accounts.privacy(nobody).await.unwrap(), Privacy::default());
    assert_eq!(world.accounts.missing(&all).await.unwrap(), [nobody]);
    assert_eq!(world.accounts.missing(&[]).await.unwrap(), []);
}

#[tokio::test]
async fn blocks_are_seen_at_once_and_both_ways() {
    let world = World::new();
    let (ana, bo) = (world.register("ana").await.user.id, world.register("bobo").await.user.id);
    for (by, other, blocked, between) in
        [(ana, bo, true, true), (bo, ana, true, true), (ana, bo, false, true), (bo, ana, false, false)]
    {
        world.accounts.set_block(by, other, blocked).await.unwrap();
        assert_eq!(world.accounts.blocks(by, other).await.unwrap(), blocked);
        assert_eq!(world.accounts.blocked_between(ana, bo).await.unwrap(), between);
        assert_eq!(world.accounts.blocked_between(bo, ana).await.unwrap(), between);
    }
    assert!(matches!(world.accounts.set_block(ana, ana, true).await, Err(BlockError::Oneself)));
    let nobody = UserId::from_bytes([9; 16]);
    assert!(matches!(world.accounts.set_block(ana, nobody, true).await, Err(BlockError::NotFound)));
}

#[tokio::test]
async fn who_was_seen_is_read_back_at_once_and_is_there_after_a_restart() {
    let world = World::new();
    let ana = world.register("ana").await;
    assert_eq!(world.accounts.last_seen(ana.user.id).await.unwrap(), None);
    let at = world.clock.now().plus(MINUTE);
    world.accounts.set_last_seen(ana.user.id, at);
    world.accounts.set_last_seen(ana.user.id, world.clock.now());
    assert_eq!(world.accounts.last_seen(ana.user.id).await.unwrap(), Some(at));
    world.hand.advance(90 * Duration::from_secs(1));
    world.accounts.touch_device(ana.device_id);
    let minute = Timestamp::from_millis(world.clock.now().as_millis() / 60_000 * 60_000);
    let device_seen =
        async |world: &World| world.accounts.sessions(identity(&ana)).await.unwrap().items[0].last_seen_at;
    assert_eq!(device_seen(&world).await, minute);
    let world = world.restarted(CHEAP).await;
    assert_eq!(world.accounts.last_seen(ana.user.id).await.unwrap(), Some(at));
    assert_eq!(device_seen(&world).await, minute);
}

#[tokio::test]
async fn what_was_remembered_is_answered_without_the_store() {
    let world = World::new();
    let (ana, bo) = (world.register("ana").await, world.register("bobo").await);
    let (user, resume) = (ana.user.id, world.accounts.resume_token(identity(&ana)));
    assert!(world.is_known(&ana).await);
    world.accounts.hiding_read(&[user]).await.unwrap();
    world.accounts.blocked_between(user, bo.user.id).await.unwrap();
    world.accounts.close().await;
    assert!(world.is_known(&ana).await);
    assert!(world.accounts.authenticate_resume(&resume).await.is_ok());
    assert!(world.accounts.hiding_read(&[user]).await.is_ok());
    assert!(world.accounts.blocked_between(user, bo.user.id).await.is_ok());
    assert!(matches!(world.accounts.authenticate(&bo.access_token).await, Err(AuthError::Store(_))));
}

#[test]
fn secrets_have_no_readable_debug() {
    let key = SigningKey::new([65; 32]);
    assert!(!format!("{key:?} {:?}", Signer::new(&key)).contains("65"));
}

/// Another node on the same data, which is told nothing.
fn another_node(world: &World) -> AccountsService {
    AccountsService::start(AccountsConfig {
        store: Arc::clone(&world.accounts.inner.store),
        events: Arc::<Heard>::default(),
        limits: Limits::off(),
        clock: world.clock.clone(),
        random: Random::system(),
        passwords: CHEAP,
    })
    .unwrap()
}

#[tokio::test]
async fn a_device_that_was_refreshed_on_another_node_is_there_when_it_would_have_ended() {
    let world = World::new();
    let other = another_node(&world);
    let ana = world.register("ana").await;
    let identity = Identity { user: ana.user.id, device: ana.device_id };
    other.recheck(identity).await.unwrap();
    world.hand.advance(89 * DAY);
    world.accounts.refresh(&Refresh { refresh_token: ana.refresh_token }).await.unwrap();
    world.hand.advance(2 * DAY);
    other.recheck(identity).await.unwrap();
    world.hand.advance(90 * DAY);
    assert!(matches!(other.recheck(identity).await, Err(AuthError::Unauthenticated)));
}

#[tokio::test]
async fn devices_that_are_gone_are_found_among_many_also_by_a_node_that_was_told_nothing() {
    let world = World::new();
    let other = another_node(&world);
    let identity = |session: &Session| Identity { user: session.user.id, device: session.device_id };
    let (ana, bo) = (world.register("ana").await, world.register("bo1").await);
    let (ana, bo) = (identity(&ana), identity(&bo));
    let nobody = Identity { user: bo.user, device: ana.device };
    other.recheck(ana).await.unwrap();
    world.accounts.logout(ana).await.unwrap();
    assert_eq!(other.gone_among(vec![ana, bo, nobody]).await.unwrap(), [ana, nobody]);
    assert!(other.recheck(ana).await.is_err(), "and what was remembered of it is forgotten");
    world.hand.advance(91 * DAY);
    assert_eq!(other.gone_among(vec![bo]).await.unwrap(), [bo]);
}
