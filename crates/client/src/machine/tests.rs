//! The machine's rules: scripts of inputs, and what it does about each.

use tertulia_protocol::entry::{ConversationType, EntryKind, HistoryPolicy, Posting, Role};
use tertulia_protocol::event::{ConversationNews, ServerEvent};
use tertulia_protocol::rest::{Conversation, HistoryPage, MemberSettings, Page};
use tertulia_protocol::{ClientSeq, Code, Entry, Seq, Timestamp};

use super::*;
use crate::outbox::Outgoing;

const CONVO: ConvoId = ConvoId::from_bytes([1; 16]);
const ME: UserId = UserId::from_bytes([2; 16]);
const OTHER: UserId = UserId::from_bytes([3; 16]);
const PHONE: DeviceId = DeviceId::from_bytes([4; 16]);

/// A machine, its clock, and a transcript of what it does.
struct Bench {
    machine: Machine,
    now: Instant,
}

impl Bench {
    fn new(start: Start) -> Self {
        let now = Instant::now();
        let settings = Settings { start, in_flight_max: 8, in_flight_per_convo_max: 1, outbox_max: 16 };
        Self { machine: Machine::new(settings, now), now }
    }

    /// A machine that is connected and has read an inbox with `CONVO` at `head`.
    fn ready(start: Start, head: u64) -> Self {
        let mut bench = Self::new(start);
        bench.did();
        bench.connect(PHONE, false);
        bench.did();
        bench.inbox(head);
        bench.did();
        bench
    }

    fn connect(&mut self, device: DeviceId, resumed: bool) {
        self.machine.handle_opened(self.now);
        self.event(ServerEvent::Ready {
            user_id: ME,
            device_id: device,
            resume_token: "token".into(),
            position: "p0".into(),
            heartbeat_seconds: 10,
            resumed,
        });
    }

    fn event(&mut self, event: ServerEvent) {
        self.machine.handle_event(event, self.now, 0.5);
    }

    fn push(&mut self, seq: u64) {
        self.event(ServerEvent::Message { entry: entry(seq), position: Some(format!("p{seq}")) });
    }

    fn ack(&mut self, client_seq: u64, seq: u64) {
        self.event(ServerEvent::MessageAck {
            convo_id: CONVO,
            client_seq: ClientSeq::new(client_seq),
            server_seq: Seq::new(seq),
            ts: Timestamp::from_millis(0),
        });
    }

    fn refuse(&mut self, code: Code, client_seq: u64, retry_after_ms: Option<u64>) {
        self.event(ServerEvent::Error {
            code,
            detail: "no".into(),
            convo_id: Some(CONVO),
            client_seq: Some(ClientSeq::new(client_seq)),
            retry_after_ms,
        });
    }

    fn send(&mut self, client_seq: u64) {
        self.machine.send(Outgoing {
            convo_id: CONVO,
            client_seq: ClientSeq::new(client_seq),
            body: format!("m{client_seq}").into(),
            reply_to: None,
            queued_at: self.now,
        });
    }

    fn close(&mut self, code: u16, retry_after: Option<Duration>) {
        let reason = Disconnect::Closed { code, reason: String::new() };
        self.machine.handle_closed(Closed { reason, retry_after }, self.now, 1.0);
    }

    /// The inbox, as it is read now: `CONVO` with its head.
    fn inbox(&mut self, head: u64) {
        let page = Page { items: vec![conversation(head, 1)], next_cursor: None };
        self.machine.handle_inbox(self.machine.inbox_round, page, self.now);
    }

    fn page(&mut self, seqs: std::ops::RangeInclusive<u64>, has_more: bool) {
        let items = seqs.map(entry).collect();
        self.machine.handle_history(CONVO, HistoryPage { items, has_more }, self.now);
    }

    fn wait(&mut self, time: Duration) {
        self.now += time;
        self.machine.handle_timeout(self.now, 1.0);
    }

    /// What it does now, in words.
    fn did(&mut self) -> String {
        let mut words = Vec::new();
        while let Some(action) = self.machine.poll(self.now) {
            words.push(match action {
                Action::Open(Hello::Connect { refusals: 0 }) => "open".into(),
                Action::Open(Hello::Connect { refusals }) => format!("open refused {refusals}"),
                Action::Open(Hello::Resume { position, .. }) => format!("resume {position}"),
                Action::Close => "close".into(),
                Action::ReadInbox(_) => "inbox".into(),
                Action::ReadHistory(_, read) => format!("read after {} limit {}", read.after, read.limit),
                Action::Send(frame) => said(&frame),
                Action::Emit(event) => told(&event),
            });
        }
        words.join(", ")
    }
}

fn said(frame: &ClientEvent) -> String {
    match frame {
        ClientEvent::SendMessage { client_seq, .. } => format!("send {client_seq}"),
        ClientEvent::Mark { read_seq, .. } => format!("mark {:?}", read_seq.map(Seq::get)),
        ClientEvent::Typing { active, .. } => format!("typing {active}"),
        ClientEvent::PresenceSet { .. } => "presence".into(),
        ClientEvent::PresenceSubscribe { user_ids } => format!("watch {}", user_ids.len()),
        ClientEvent::PresenceUnsubscribe { .. } => "unwatch".into(),
        ClientEvent::Ping {} => "ping".into(),
        ClientEvent::Connect { .. } | ClientEvent::Resume { .. } => "hello twice".into(),
    }
}

fn told(event: &Event) -> String {
    match event {
        Event::Connected { resumed, .. } => format!("connected {resumed}"),
        Event::Disconnected { retry_in, .. } => format!("disconnected {}ms", retry_in.as_millis()),
        Event::Entry { entry, via } => format!("{via:?} {}", entry.seq),
        Event::SendAcked { client_seq, seq, .. } => format!("acked {client_seq}={seq}"),
        Event::SendDelayed { client_seq, retry_in, .. } => {
            format!("delayed {client_seq} {}ms", retry_in.as_millis())
        }
        Event::SendFailed { client_seq, code, .. } => format!("failed {client_seq} {}", code.as_str()),
        Event::SessionLost(lost) => format!("lost {lost:?}"),
        other => format!("{other:?}"),
    }
}

fn entry(seq: u64) -> Entry {
    Entry {
        convo_id: CONVO,
        seq: Seq::new(seq),
        sender_id: OTHER,
        client_seq: None,
        ts: Timestamp::from_millis(0),
        kind: EntryKind::Text { body: format!("s{seq}"), reply_to: None },
    }
}

fn conversation(head: u64, visible_from: u64) -> Conversation {
    Conversation {
        id: CONVO,
        kind: ConversationType::Group,
        title: None,
        about: String::new(),
        posting: Posting::All,
        history: HistoryPolicy::All,
        created_at: Timestamp::from_millis(0),
        updated_at: Timestamp::from_millis(0),
        last_seq: Seq::new(head),
        last_message: None,
        visible_from_seq: Seq::new(visible_from),
        delivered_seq: Seq::new(0),
        read_seq: Seq::new(0),
        unread_count: 0,
        role: Role::Member,
        member_count: 2,
        settings: MemberSettings::default(),
        members: None,
        members_next_cursor: None,
    }
}

#[test]
fn it_connects_reads_the_inbox_and_hands_over_everything_from_the_beginning() {
    let mut bench = Bench::new(Start::Beginning);
    assert_eq!(bench.did(), "open");
    bench.connect(PHONE, false);
    assert_eq!(bench.did(), "connected false, inbox");
    bench.inbox(3);
    assert_eq!(bench.did(), "read after 0 limit 3");
    bench.push(4);
    assert_eq!(bench.did(), "");
    bench.page(1..=3, true);
    assert_eq!(bench.did(), "History 1, History 2, History 3, Push 4");
}

#[test]
fn from_the_head_on_nothing_old_is_read() {
    let mut bench = Bench::ready(Start::Head, 100);
    bench.push(101);
    assert_eq!(bench.did(), "Push 101");
}

#[test]
fn m1_nothing_is_said_before_ready() {
    let mut bench = Bench::new(Start::Head);
    bench.send(1);
    bench.machine.mark(CONVO, None, Some(Seq::new(1)));
    bench.machine.typing(CONVO, true, bench.now);
    assert_eq!(bench.did(), "open");
    bench.machine.handle_opened(bench.now);
    assert_eq!(bench.did(), "");
}

#[test]
fn m3_after_an_unknown_position_the_inbox_is_read_before_anything_is_sent_again() {
    let mut bench = Bench::ready(Start::Head, 1);
    bench.send(1);
    assert_eq!(bench.did(), "send 1");
    bench.close(1006, None);
    assert_eq!(bench.did(), "close, disconnected 250ms");
    bench.wait(Duration::from_millis(250));
    assert_eq!(bench.did(), "resume p0");
    bench.connect(PHONE, false);
    assert_eq!(bench.did(), "connected false, inbox");
    bench.inbox(3);
    assert_eq!(bench.did(), "read after 1 limit 2, send 1");
}

#[test]
fn it_resumes_from_the_last_position_and_sends_the_unacked_again() {
    let mut bench = Bench::ready(Start::Head, 1);
    bench.push(2);
    bench.send(7);
    assert_eq!(bench.did(), "Push 2, send 7");
    bench.close(1006, None);
    bench.wait(Duration::from_millis(250));
    assert_eq!(bench.did(), "close, disconnected 250ms, resume p2");
    bench.connect(PHONE, true);
    assert_eq!(bench.did(), "connected true, send 7");
    bench.push(2);
    bench.push(3);
    bench.ack(7, 3);
    assert_eq!(bench.did(), "Push 3, acked 7=3", "what comes twice is handed over once");
}

#[test]
fn own_messages_are_merged_by_their_ack_in_the_order_of_the_log() {
    let mut bench = Bench::ready(Start::Head, 1);
    bench.send(1);
    bench.did();
    bench.ack(1, 3);
    assert_eq!(bench.did(), "acked 1=3", "2 is on its way");
    bench.push(2);
    assert_eq!(bench.did(), "Push 2, Ack 3");
}

#[test]
fn messages_of_one_conversation_go_out_one_after_the_other() {
    let mut bench = Bench::ready(Start::Head, 1);
    bench.send(1);
    bench.send(2);
    assert_eq!(bench.did(), "send 1");
    bench.ack(1, 2);
    assert_eq!(bench.did(), "acked 1=2, Ack 2, send 2");
}

#[test]
fn a_refusal_for_now_is_waited_out_and_one_for_good_is_reported() {
    for code in [Code::RateLimited, Code::Unavailable] {
        let mut bench = Bench::ready(Start::Head, 1);
        bench.send(1);
        bench.send(2);
        bench.did();
        bench.refuse(code, 1, Some(700));
        assert_eq!(bench.did(), "delayed 1 700ms");
        bench.wait(Duration::from_millis(699));
        assert_eq!(bench.did(), "");
        bench.wait(Duration::from_millis(1));
        assert_eq!(bench.did(), "send 1");
    }
    for code in [Code::Forbidden, Code::NotFound, Code::Invalid, Code::Conflict, Code::TooLarge] {
        let mut bench = Bench::ready(Start::Head, 1);
        bench.send(1);
        bench.send(2);
        bench.did();
        bench.refuse(code, 1, None);
        assert_eq!(bench.did(), format!("failed 1 {}, send 2", code.as_str()));
    }
}

#[test]
fn a_named_gap_is_filled_from_history_before_what_follows() {
    let mut bench = Bench::ready(Start::Head, 1);
    bench.event(ServerEvent::Gap { convo_id: CONVO, from_seq: Seq::new(2), to_seq: Seq::new(3) });
    bench.push(4);
    assert_eq!(bench.did(), "read after 1 limit 2");
    bench.page(2..=3, true);
    assert_eq!(bench.did(), "History 2, History 3, Push 4");
}

#[test]
fn a_read_that_fails_is_tried_again_and_one_that_is_refused_is_given_up() {
    let mut bench = Bench::ready(Start::Head, 1);
    bench.event(ServerEvent::Gap { convo_id: CONVO, from_seq: Seq::new(2), to_seq: Seq::new(3) });
    assert_eq!(bench.did(), "read after 1 limit 2");
    let told = ReadFailure::Temporary(Some(Duration::from_secs(2)));
    bench.machine.handle_history_failed(CONVO, &told, bench.now, 1.0);
    bench.push(4);
    assert_eq!(bench.did(), "");
    bench.wait(Duration::from_secs(2));
    assert_eq!(bench.did(), "read after 1 limit 2");
    bench.machine.handle_history_failed(CONVO, &ReadFailure::Final, bench.now, 1.0);
    assert_eq!(bench.did(), "Push 4");
}

#[test]
fn waits_double_until_a_connection_was_good() {
    let mut bench = Bench::ready(Start::Head, 1);
    bench.wait(GOOD_CONNECTION);
    for expected in [250, 500, 1_000] {
        bench.close(1006, None);
        let did = bench.did();
        assert_eq!(did, format!("close, disconnected {expected}ms"));
        bench.wait(Duration::from_millis(expected));
        bench.did();
    }
    bench.connect(PHONE, true);
    bench.did();
    bench.wait(GOOD_CONNECTION);
    bench.close(1006, None);
    assert_eq!(bench.did(), "close, disconnected 250ms");
}

#[test]
fn a_draining_servers_number_wins() {
    let mut bench = Bench::ready(Start::Head, 1);
    bench.close(4010, Some(Duration::from_millis(4_321)));
    assert_eq!(bench.did(), "close, disconnected 4321ms");
    bench.wait(Duration::from_millis(4_321));
    assert_eq!(bench.did(), "resume p0");
}

#[test]
fn a_wait_that_the_server_names_makes_no_later_one_longer() {
    let mut bench = Bench::ready(Start::Head, 1);
    for code in [4010, 1013, 1013, 4010, 1013] {
        bench.close(code, Some(Duration::from_millis(700)));
        assert_eq!(bench.did(), "close, disconnected 700ms");
        bench.wait(Duration::from_millis(700));
        bench.did();
        bench.machine.handle_opened(bench.now);
    }
    bench.close(1006, None);
    assert_eq!(bench.did(), "close, disconnected 250ms");
}

#[test]
fn a_number_of_zero_is_none() {
    let mut bench = Bench::ready(Start::Head, 1);
    for expected in [250, 500] {
        bench.close(1013, Some(Duration::ZERO));
        assert_eq!(bench.did(), format!("close, disconnected {expected}ms"));
    }
}

#[test]
fn who_is_turned_away_by_a_node_tries_the_next_at_once_and_waits_no_longer_for_it_later() {
    let mut bench = Bench::ready(Start::Head, 1);
    bench.wait(GOOD_CONNECTION);
    bench.close(1006, None);
    bench.wait(Duration::from_millis(250));
    bench.did();
    for _ in 0..2 {
        bench.machine.handle_opened(bench.now);
        assert!(bench.machine.is_greeting());
        let busy = Disconnect::Closed { code: 1013, reason: String::new() };
        bench.machine.handle_turned_away(busy, bench.now);
        assert_eq!(bench.did(), "close, disconnected 0ms, resume p0");
    }
    bench.machine.handle_opened(bench.now);
    bench.close(1013, None);
    assert_eq!(bench.did(), "close, disconnected 500ms");
}

#[test]
fn a_revoked_device_stops_at_once() {
    let mut bench = Bench::ready(Start::Head, 1);
    bench.close(4002, None);
    assert_eq!(bench.did(), "close, lost Revoked");
    assert!(bench.machine.is_over());
}

#[test]
fn who_is_not_accepted_renews_his_token_once_and_logs_in_once() {
    let mut bench = Bench::ready(Start::Head, 1);
    bench.close(4001, None);
    bench.wait(Duration::from_secs(1));
    assert_eq!(bench.did(), "close, disconnected 250ms, open refused 1");
    bench.close(4001, None);
    bench.wait(Duration::from_secs(1));
    assert_eq!(bench.did(), "close, disconnected 500ms, open refused 2");
    bench.close(4001, None);
    assert_eq!(bench.did(), "close, lost Expired");
}

#[test]
fn a_revoked_device_that_the_session_has_left_behind_is_no_loss() {
    let mut bench = Bench::ready(Start::Head, 1);
    bench.machine.handle_device(DeviceId::from_bytes([5; 16]));
    bench.close(4002, None);
    bench.wait(Duration::from_secs(1));
    assert_eq!(bench.did(), "close, disconnected 250ms, open");
}

#[test]
fn what_comes_live_is_not_read_from_history_because_of_the_first_inbox() {
    let mut bench = Bench::new(Start::Head);
    bench.did();
    bench.connect(PHONE, false);
    bench.push(5);
    assert_eq!(bench.did(), "connected false, Push 5, inbox");
    bench.inbox(7);
    assert_eq!(bench.did(), "", "6 and 7 are on their way");
    bench.push(6);
    assert_eq!(bench.did(), "Push 6");
}

#[test]
fn a_conversation_that_news_bring_before_the_inbox_is_read_from_its_beginning_too() {
    let mut bench = Bench::new(Start::Beginning);
    bench.did();
    bench.connect(PHONE, false);
    let news = ConversationNews::Whole(Box::new(conversation(9, 1)));
    bench.event(ServerEvent::ConversationUpdate { conversation: news });
    bench.did();
    bench.inbox(9);
    assert_eq!(bench.did(), "read after 0 limit 9");
}

#[test]
fn a_conversation_that_has_begun_while_away_is_read_from_its_beginning() {
    let mut bench = Bench::new(Start::Head);
    bench.did();
    bench.connect(PHONE, false);
    bench.machine.handle_inbox(1, Page { items: Vec::new(), next_cursor: None }, bench.now);
    bench.close(1006, None);
    bench.wait(Duration::from_secs(1));
    bench.did();
    bench.connect(PHONE, false);
    bench.did();
    bench.inbox(2);
    assert_eq!(bench.did(), "read after 0 limit 2");
}

#[test]
fn an_ack_in_a_conversation_that_has_just_begun_does_not_skip_what_came_before() {
    let mut bench = Bench::new(Start::Head);
    bench.did();
    bench.connect(PHONE, false);
    bench.machine.handle_inbox(1, Page { items: Vec::new(), next_cursor: None }, bench.now);
    bench.send(1);
    bench.did();
    bench.ack(1, 2);
    assert_eq!(bench.did(), "acked 1=2");
    bench.push(1);
    assert_eq!(bench.did(), "Push 1, Ack 2");
}

#[test]
fn the_inbox_of_an_earlier_connection_says_nothing_about_this_one() {
    let mut bench = Bench::new(Start::Beginning);
    bench.did();
    bench.connect(PHONE, false);
    assert_eq!(bench.did(), "connected false, inbox");
    let earlier = bench.machine.inbox_round;
    bench.close(1006, None);
    bench.wait(Duration::from_secs(1));
    bench.did();
    bench.connect(PHONE, false);
    assert_eq!(bench.did(), "connected false, inbox");
    bench.machine.handle_inbox(earlier, Page { items: Vec::new(), next_cursor: None }, bench.now);
    bench.inbox(1);
    assert_eq!(bench.did(), "read after 0 limit 1");
}

#[test]
fn more_users_than_the_server_lets_watch_are_refused_here() {
    let mut bench = Bench::ready(Start::Head, 1);
    let user = |n: u16| {
        let mut bytes = [0; 16];
        bytes[..2].copy_from_slice(&n.to_be_bytes());
        UserId::from_bytes(bytes)
    };
    bench.machine.watch((0..1_001).map(user).collect(), bench.now);
    assert!(bench.did().ends_with("watch 1000"));
}

#[test]
fn a_message_that_no_frame_can_hold_fails_at_once() {
    let mut bench = Bench::ready(Start::Head, 1);
    let body = "\u{1}".repeat(60_000).into();
    let (client_seq, queued_at) = (ClientSeq::new(9), bench.now);
    bench.machine.send(Outgoing { convo_id: CONVO, client_seq, body, reply_to: None, queued_at });
    assert_eq!(bench.did(), "failed 9 too_large");
}

#[test]
fn no_number_of_the_server_silences_a_client_for_ever() {
    let mut bench = Bench::ready(Start::Head, 1);
    bench.close(4010, Some(Duration::MAX));
    assert_eq!(bench.did(), "close, disconnected 3600000ms");
    let mut bench = Bench::ready(Start::Head, 1);
    bench.send(1);
    bench.did();
    bench.refuse(Code::RateLimited, 1, Some(u64::MAX));
    assert_eq!(bench.did(), "delayed 1 3600000ms");
}

#[test]
fn a_silent_client_pings_and_a_silent_server_is_left() {
    let mut bench = Bench::ready(Start::Head, 1);
    bench.wait(Duration::from_secs(10));
    assert_eq!(bench.did(), "ping");
    bench.event(ServerEvent::Pong { position: "p9".into() });
    bench.wait(Duration::from_secs(10));
    assert_eq!(bench.did(), "ping");
    bench.wait(Duration::from_secs(15));
    assert_eq!(bench.did(), "close, disconnected 250ms");
    bench.wait(Duration::from_millis(250));
    assert_eq!(bench.did(), "resume p9");
}

#[test]
fn a_server_that_never_says_ready_is_left() {
    let mut bench = Bench::new(Start::Head);
    bench.did();
    bench.machine.handle_opened(bench.now);
    bench.wait(READY_PATIENCE);
    assert_eq!(bench.did(), "close, disconnected 250ms");
}

#[test]
fn typing_is_throttled_and_ends_with_the_message() {
    let mut bench = Bench::ready(Start::Head, 1);
    bench.machine.typing(CONVO, true, bench.now);
    bench.machine.typing(CONVO, true, bench.now);
    assert_eq!(bench.did(), "typing true");
    bench.wait(TYPING_EVERY);
    bench.machine.typing(CONVO, true, bench.now);
    bench.machine.typing(CONVO, false, bench.now);
    bench.machine.typing(CONVO, false, bench.now);
    assert_eq!(bench.did(), "typing true, typing false");
    bench.machine.typing(CONVO, true, bench.now);
    bench.send(1);
    bench.machine.typing(CONVO, false, bench.now);
    assert_eq!(bench.did(), "typing true, send 1");
}

#[test]
fn presence_is_said_and_watched_again_on_every_connection() {
    let mut bench = Bench::ready(Start::Head, 1);
    bench.machine.set_presence(OwnPresence::Away, bench.now);
    bench.machine.watch(vec![OTHER], bench.now);
    assert_eq!(bench.did(), "presence, watch 1");
    bench.close(1006, None);
    bench.wait(Duration::from_secs(1));
    bench.did();
    bench.connect(PHONE, true);
    assert_eq!(bench.did(), "presence, watch 1, connected true");
}

#[test]
fn a_send_of_a_lost_login_is_looked_for_before_it_is_repeated() {
    let mut bench = Bench::ready(Start::Head, 1);
    bench.send(1);
    bench.send(2);
    assert_eq!(bench.did(), "send 1");
    bench.close(4001, None);
    bench.wait(Duration::from_secs(1));
    bench.did();
    bench.connect(DeviceId::from_bytes([5; 16]), false);
    assert_eq!(bench.did(), "connected false, inbox");
    bench.inbox(2);
    assert_eq!(bench.did(), "read after 1 limit 1");
    let mut own = entry(2);
    own.sender_id = ME;
    own.client_seq = Some(ClientSeq::new(1));
    own.kind = EntryKind::Text { body: "m1".into(), reply_to: None };
    bench.machine.handle_history(CONVO, HistoryPage { items: vec![own], has_more: false }, bench.now);
    assert_eq!(bench.did(), "History 2, acked 1=2, send 2");
}

#[test]
fn a_send_that_the_log_has_shown_already_is_not_repeated_by_a_new_login() {
    let mut bench = Bench::ready(Start::Head, 1);
    bench.send(1);
    bench.did();
    let mut own = entry(2);
    own.sender_id = ME;
    own.client_seq = Some(ClientSeq::new(1));
    own.kind = EntryKind::Text { body: "m1".into(), reply_to: None };
    bench.event(ServerEvent::Message { entry: own, position: None });
    assert_eq!(bench.did(), "Push 2", "the ack is still to come");
    bench.close(4001, None);
    bench.wait(Duration::from_secs(1));
    bench.did();
    bench.connect(DeviceId::from_bytes([5; 16]), false);
    assert_eq!(bench.did(), "connected false, acked 1=2, inbox");
}

#[test]
fn followed_conversations_are_read_to_their_end() {
    let mut bench = Bench::new(Start::Head);
    bench.did();
    bench.connect(PHONE, false);
    bench.machine.follow(CONVO, Seq::new(0));
    assert_eq!(bench.did(), "connected false, inbox, read after 0 limit 200");
    bench.page(1..=2, false);
    assert_eq!(bench.did(), "History 1, History 2");
}

#[test]
fn with_a_full_outbox_no_command_is_taken() {
    let mut bench = Bench::ready(Start::Head, 1);
    for number in 1..=16 {
        assert!(bench.machine.takes_commands());
        bench.send(number);
    }
    assert!(!bench.machine.takes_commands());
    bench.did();
    bench.ack(1, 2);
    assert!(bench.machine.takes_commands());
}
