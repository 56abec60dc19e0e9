//! Changes: who is in a group, who may do what there, who is blocked, which devices are logged in.

use std::sync::atomic::Ordering;
use std::time::Duration;

use tertulia_client::api::Api;
use tertulia_client::error::Error as ClientError;
use tertulia_client::session::Session;
use tertulia_history::event::{Change, Done, Kind};
use tertulia_protocol::entry::{ConversationType, HistoryPolicy, Posting, Role};
use tertulia_protocol::rest::{ConversationPatch, MemberSettingsPatch};
use tertulia_protocol::{ConvoId, UserId};
use tokio::time::Instant;

use crate::device::{Device, LoggedOut};

/// By when the token of a revoked device is refused, at the latest: the contract says a second, but the server may
/// be stopped for seconds meanwhile.
const REVOKED_MAX: Duration = Duration::from_secs(20);

/// What can be changed of a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum What {
    Add,
    Remove,
    Leave,
    Role,
    Rename,
    Policy,
}

/// Adding outweighs removing and leaving, so that groups stay full.
const CHANGES: [(u32, What); 6] = [
    (45, What::Add),
    (25, What::Remove),
    (6, What::Leave),
    (8, What::Role),
    (8, What::Rename),
    (8, What::Policy),
];

impl Device {
    fn someone(&mut self) -> Option<UserId> {
        self.chance.pick(&self.world.people).map(|person| person.id)
    }

    fn me(&self) -> UserId {
        self.login.session.user_id()
    }

    /// Changes a group, mostly one where this user may.
    pub(crate) async fn change_group(&mut self) -> Result<(), LoggedOut> {
        let may = |role: Role| role >= Role::Admin;
        let without_right = self.chance.percent(10);
        let groups: Vec<ConvoId> = self
            .convos
            .iter()
            .filter(|(_, known)| known.kind == ConversationType::Group)
            .filter(|(_, known)| may(known.role) || without_right)
            .map(|(id, _)| *id)
            .collect();
        let Some(convo) = self.chance.pick(&groups).copied() else { return Ok(()) };
        let (Some(what), Some(someone)) = (self.chance.weighted(&CHANGES), self.someone()) else {
            return Ok(());
        };
        match what {
            What::Add => {
                let mut users = vec![someone];
                for _ in 0..self.chance.below(3) {
                    users.extend(self.someone().filter(|user| !users.contains(user)));
                }
                let op = self.changing(convo, Kind::MemberAdded, users.clone());
                let outcome = self.api.add_members(convo, users).await.map(drop);
                self.changed(op, "members added", outcome)
            }
            What::Remove | What::Leave => {
                let user = if what == What::Leave { self.me() } else { someone };
                if self.world.keepers.get(&convo) == Some(&user) {
                    return Ok(());
                }
                let op = self.changing(convo, Kind::MemberRemoved, vec![user]);
                let outcome = self.api.remove_member(convo, user).await;
                if outcome.is_ok() && user == self.me() {
                    self.convos.remove(&convo);
                }
                self.changed(op, if user == self.me() { "groups left" } else { "members removed" }, outcome)
            }
            What::Role => {
                let role = *self
                    .chance
                    .pick(&[Role::Admin, Role::Admin, Role::Member, Role::Owner])
                    .unwrap_or(&Role::Admin);
                let op = self.changing(convo, Kind::RoleChanged, vec![someone]);
                let outcome = self.api.set_role(convo, someone, role).await.map(drop);
                self.changed(op, "roles changed", outcome)
            }
            What::Rename => {
                let title = Some(format!("group {}", self.chance.below(1_000)));
                let op = self.changing(convo, Kind::Renamed, Vec::new());
                let patch = ConversationPatch { title, ..ConversationPatch::default() };
                let outcome = self.api.update_conversation(convo, &patch).await.map(drop);
                self.changed(op, "groups renamed", outcome)
            }
            What::Policy => {
                let mut patch = ConversationPatch::default();
                match self.chance.below(4) {
                    0 => patch.history = Some(HistoryPolicy::All),
                    1 => patch.history = Some(HistoryPolicy::SinceJoined),
                    // Rarely, and soon taken back by somebody: who may not send tells nothing about sending.
                    2 if self.chance.percent(20) => patch.posting = Some(Posting::Admins),
                    _ => patch.posting = Some(Posting::All),
                }
                let op = self.changing(convo, Kind::SettingsChanged, Vec::new());
                let outcome = self.api.update_conversation(convo, &patch).await.map(drop);
                self.changed(op, "policies changed", outcome)
            }
        }
    }

    fn changing(&self, convo: ConvoId, kind: Kind, users: Vec<UserId>) -> u64 {
        let op = self.recorder().op();
        let device = self.login.device_id;
        self.recorder().record(Change { op, device, convo, kind, users, target: None, body: None });
        op
    }

    fn changed(
        &mut self,
        op: u64,
        what: &'static str,
        outcome: Result<(), ClientError>,
    ) -> Result<(), LoggedOut> {
        match outcome {
            Ok(()) => {
                self.count(what);
                self.recorder().record(Done { op });
                Ok(())
            }
            Err(error) => self.failed(op, &error),
        }
    }

    /// Blocks somebody, or takes it back; everybody is unblocked in the end.
    pub(crate) async fn block(&mut self) -> Result<(), LoggedOut> {
        let Some(user) = self.someone().filter(|user| *user != self.me()) else { return Ok(()) };
        match self.api.block(user).await {
            Ok(()) => self.count("users blocked"),
            Err(error) => self.look_at(&error)?,
        }
        // It is taken back at once, or as soon as there is an answer; sends in between are refused.
        loop {
            match self.api.unblock(user).await {
                Ok(()) => return Ok(()),
                Err(error) => self.look_at(&error)?,
            }
            if self.is_settling() {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }

    /// Changes settings that only this user has.
    pub(crate) async fn change_own_settings(&mut self) -> Result<(), LoggedOut> {
        let Some((convo, _)) = self.some_convo() else { return Ok(()) };
        let patch = MemberSettingsPatch {
            muted: Some(self.chance.percent(50)),
            pinned: Some(self.chance.percent(50)),
            ..MemberSettingsPatch::default()
        };
        match self.api.update_settings(convo, &patch).await {
            Ok(()) => self.count("own settings changed"),
            Err(error) => self.look_at(&error)?,
        }
        Ok(())
    }

    /// Logs another device of this user out, and sees to it that its token is refused.
    pub(crate) async fn revoke_another(&mut self) -> Result<(), LoggedOut> {
        let user = self.world.devices.get(self.number).map(|plan| plan.user);
        let others: Vec<usize> = self
            .world
            .devices
            .iter()
            .enumerate()
            .filter(|(number, plan)| *number != self.number && Some(plan.user) == user)
            .map(|(number, _)| number)
            .collect();
        let Some(login) = self.chance.pick(&others).and_then(|number| self.world.login(*number)) else {
            return Ok(());
        };
        if login.revoking.swap(true, Ordering::SeqCst) {
            return Ok(());
        }
        if let Err(error) = self.api.revoke(login.device_id).await {
            // Whether it was done nobody knows; its device will see.
            return self.look_at(&error);
        }
        self.count("devices revoked");
        let since = Instant::now();
        // The token as it is, without the means to get a fresh one.
        let mut tokens = tertulia_protocol::rest::Session::clone(&login.session.watch().borrow());
        tokens.refresh_token = "none".into();
        let as_revoked = Api::new(Session::new(login.session.server(), tokens, None));
        login.revoked.send_replace(true);
        loop {
            match as_revoked.me().await {
                Ok(_) if since.elapsed() > REVOKED_MAX => {
                    self.find(&format!("the token of the revoked device {} is still good", login.device_id));
                    return Ok(());
                }
                Err(ClientError::SessionLost(_)) => {
                    self.count("tokens of revoked devices refused");
                    return Ok(());
                }
                Ok(_) | Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
            }
            if self.is_settling() {
                return Ok(());
            }
        }
    }
}
