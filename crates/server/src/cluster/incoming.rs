//! What other nodes tell, to the hub.

use std::sync::atomic::Ordering;

use tertulia_fabric::live::{Ear, Heard};

use super::letters::{AccountLetter, Letter};
use super::{Outgoing, Parts, letters};
use crate::accounts::AccountsService;

/// Hears until the channel is closed.
pub(super) async fn hear(outgoing: &Outgoing, parts: &Parts, accounts: &AccountsService, mut ear: Ear) {
    let Parts { hub, link, repairs, .. } = parts;
    while let Some(heard) = ear.next().await {
        match heard {
            Heard::Message { bytes, .. } => {
                let mut lacks = false;
                for letter in outgoing.open(&bytes).into_iter().flatten() {
                    match letter {
                        Letter::Seen { users } => parts.presences.hear(users),
                        Letter::Account(letter) => hear_of_account(parts, accounts, letter),
                        letter => lacks |= letters::read(hub, letter),
                    }
                }
                if lacks {
                    repairs.notify_one();
                }
            }
            // A barrier that was asked for before the link broke is never heard.
            Heard::Barrier(token) => {
                let horizon = parts.barriers.heard(token);
                if let Some(horizon) = horizon.filter(|_| link.is_whole()) {
                    link.hears();
                    hub.caught_up(horizon);
                }
            }
            Heard::Broken => {
                tracing::warn!(
                    "the link to the other nodes is broken; what they append is read from the log later"
                );
                link.breaks.fetch_add(1, Ordering::AcqRel);
                // Others may change what is remembered here, and cannot tell.
                accounts.set_blind(true);
            }
            Heard::Restored => {
                link.restored.notify_one();
                parts.presences.ask_for_all();
            }
        }
    }
}

fn hear_of_account(parts: &Parts, accounts: &AccountsService, letter: AccountLetter) {
    match letter {
        AccountLetter::Revoked { user, device } => {
            accounts.forget_device(device);
            parts.hub.revoke(user, device);
        }
        AccountLetter::Privacy { user, privacy } => {
            accounts.forget_privacy(user);
            parts.hub.set_privacy(user, privacy);
        }
        AccountLetter::Block { by, other } => accounts.forget_block(by, other),
        AccountLetter::Anything => {
            accounts.forget_all();
            parts.link.recheck.notify_one();
        }
    }
}
