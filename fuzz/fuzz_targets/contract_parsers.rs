//! Whatever bytes come as a frame or as a body: no panic, and what is understood is written back the same.

#![no_main]

use libfuzzer_sys::fuzz_target;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tertulia_protocol::event::{ClientEvent, ServerEvent};
use tertulia_protocol::{Timestamp, rest, rules};

/// What was understood once is understood again, and then stays as it is.
fn check<T: DeserializeOwned + Serialize>(bytes: &[u8]) {
    let Ok(value) = serde_json::from_slice::<T>(bytes) else { return };
    let written = serde_json::to_string(&value).expect("what was read can be written");
    let again: T = serde_json::from_str(&written).expect("what was written can be read");
    assert_eq!(serde_json::to_string(&again).expect("as before"), written);
}

fuzz_target!(|bytes: &[u8]| {
    check::<ClientEvent>(bytes);
    check::<ServerEvent>(bytes);
    check::<rest::Register>(bytes);
    check::<rest::Login>(bytes);
    check::<rest::UserPatch>(bytes);
    check::<rest::NewConversation>(bytes);
    check::<rest::ConversationPatch>(bytes);
    check::<rest::MemberSettingsPatch>(bytes);
    check::<rest::SendMessage>(bytes);
    check::<rest::Mark>(bytes);
    check::<rest::HistoryPage>(bytes);
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Ok(moment) = text.parse::<Timestamp>() {
        assert_eq!(moment.to_string().parse(), Ok(moment));
    }
    // Rules refuse or let pass; they never panic.
    let _ = (rules::body(text), rules::username(text), rules::display_name(text), rules::title(text));
});
