//! The table.

use schemars::{Schema, SchemaGenerator, json_schema};

use super::{Answer, Body, Call, Parameter, Place, Tag, Who};
use crate::describe::schemas::Shape;
use crate::problem::Code;
use crate::rest::{
    AddMembers, Conversation, ConversationAnswer, ConversationPatch, Device, EventsPage, FoundMessage,
    Gateway, HistoryPage, Login, Mark, MemberSettingsPatch, MessageAnswer, MessageReceipt, NewConversation,
    Page, Refresh, Register, RolePatch, SearchOrder, SendMessage, Session, User, UserAnswer, UserPatch,
};
use crate::{ConvoId, DeviceId, Seq, UserId, rules};

/// All calls.
pub const CALLS: &[Call] = &[
    Call {
        method: "POST",
        path: "/api/users",
        name: "register",
        tag: Tag::Sessions,
        who: Who::Anyone,
        summary: "Registers an account and logs in",
        text: "Limited by address.",
        body: Some(Shape::of::<Register>()),
        answers: &[json(201, Shape::of::<Session>(), "The account, and a first session on it.")],
        refusals: &[(Code::Conflict, "The username is taken.")],
        ..PLAIN
    },
    Call {
        method: "POST",
        path: "/api/sessions",
        name: "logIn",
        tag: Tag::Sessions,
        who: Who::Anyone,
        summary: "Logs in: a new device",
        text: "Limited by username and by address. A wrong password and an unknown user cannot be told apart, \
               nor by the time that the answer takes.",
        body: Some(Shape::of::<Login>()),
        answers: &[json(201, Shape::of::<Session>(), "The session.")],
        refusals: &[(Code::Unauthenticated, "Username and password do not belong together.")],
        ..PLAIN
    },
    Call {
        method: "POST",
        path: "/api/sessions/refresh",
        name: "refreshSession",
        tag: Tag::Sessions,
        who: Who::Anyone,
        summary: "Exchanges the refresh token for the next pair of tokens",
        text: "A refresh token works once. One that is used a second time was copied: its device is revoked.",
        body: Some(Shape::of::<Refresh>()),
        answers: &[json(200, Shape::of::<Session>(), "The same session with new tokens.")],
        refusals: &[(Code::Unauthenticated, "The refresh token is not known, too old, or was used before.")],
        ..PLAIN
    },
    Call {
        path: "/api/sessions",
        name: "listDevices",
        tag: Tag::Sessions,
        summary: "Lists one's devices",
        text: "Each login is a device, until it is revoked or its refresh token ends.",
        answers: &[json(200, Shape::of::<Page<Device>>(), "All of them.")],
        ..PLAIN
    },
    Call {
        method: "DELETE",
        path: "/api/sessions/current",
        name: "logOut",
        tag: Tag::Sessions,
        summary: "Logs out the device that asks",
        text: "Its tokens end and its sockets close with 4002 within a second.",
        answers: &[empty(204, "Logged out.")],
        ..PLAIN
    },
    Call {
        method: "DELETE",
        path: "/api/sessions/{deviceId}",
        name: "revokeDevice",
        tag: Tag::Sessions,
        summary: "Logs out one of one's devices",
        text: "Its tokens end and its sockets close with 4002 within a second.",
        parameters: &[path("deviceId", Shape::of::<DeviceId>(), "The device.")],
        answers: &[empty(204, "Logged out.")],
        refusals: &[(Code::NotFound, "One has no such device.")],
        ..PLAIN
    },
    Call {
        path: "/api/users/me",
        name: "getMe",
        tag: Tag::Users,
        summary: "Reads one's own profile",
        text: "With the privacy settings, which nobody else sees.",
        answers: &[json(200, Shape::of::<UserAnswer>(), "The profile.")],
        ..PLAIN
    },
    Call {
        method: "PATCH",
        path: "/api/users/me",
        name: "updateMe",
        tag: Tag::Users,
        summary: "Changes one's own profile and privacy",
        text: "What is absent stays. Who hides his read receipts sees none of others either.",
        body: Some(Shape::of::<UserPatch>()),
        answers: &[json(200, Shape::of::<UserAnswer>(), "The profile as it is now.")],
        ..PLAIN
    },
    Call {
        path: "/api/users/{id}",
        name: "getUser",
        tag: Tag::Users,
        summary: "Reads a user's profile",
        parameters: &[USER],
        answers: &[json(200, Shape::of::<UserAnswer>(), "The profile.")],
        refusals: &[NO_USER],
        ..PLAIN
    },
    Call {
        path: "/api/users",
        name: "findUsers",
        tag: Tag::Users,
        summary: "Finds users by how their username or display name begins",
        text: "Upper and lower case are one.",
        parameters: &[
            Parameter {
                name: "query",
                place: Place::RequiredQuery,
                shape: Shape::of::<String>(),
                text: "The beginning of a username or of a display name.",
            },
            LIMIT,
            CURSOR,
        ],
        answers: &[json(200, Shape::of::<Page<User>>(), "Those who fit.")],
        ..PLAIN
    },
    Call {
        method: "PUT",
        path: "/api/users/{id}/block",
        name: "blockUser",
        tag: Tag::Users,
        summary: "Blocks a user",
        text: "Neither can start or continue a direct conversation with the other; what was said stays readable. \
               Groups go on.",
        parameters: &[USER],
        answers: &[empty(204, "Blocked, now or before.")],
        refusals: &[NO_USER],
        ..PLAIN
    },
    Call {
        method: "DELETE",
        path: "/api/users/{id}/block",
        name: "unblockUser",
        tag: Tag::Users,
        summary: "Ends a block",
        parameters: &[USER],
        answers: &[empty(204, "Not blocked, now or before.")],
        refusals: &[NO_USER],
        ..PLAIN
    },
    Call {
        method: "POST",
        path: "/api/conversations",
        name: "createConversation",
        tag: Tag::Conversations,
        summary: "Begins a direct conversation or a group",
        text: "Two users have one direct conversation, however often and from whichever side it is asked for. A \
               direct conversation with oneself alone holds notes. Who creates a group is its owner.",
        body: Some(Shape::of::<NewConversation>()),
        answers: &[
            json(201, THE_CONVERSATION, "The conversation; its entry 1 is `created`."),
            json(200, THE_CONVERSATION, "The direct conversation that was there already."),
        ],
        refusals: &[
            (Code::Forbidden, "One of the two has blocked the other."),
            (Code::NotFound, "One of the members is no user."),
        ],
        ..PLAIN
    },
    Call {
        path: "/api/conversations",
        name: "listConversations",
        tag: Tag::Conversations,
        summary: "Reads the inbox",
        text: "One's conversations, newest activity first, each with its last message and how many are unread.",
        parameters: &[CURSOR, LIMIT],
        answers: &[json(200, Shape::of::<Page<Conversation>>(), "A page of the inbox.")],
        ..PLAIN
    },
    Call {
        path: "/api/conversations/{id}",
        name: "getConversation",
        tag: Tag::Conversations,
        who: Who::Member,
        summary: "Reads a conversation, with a page of its members",
        parameters: &[
            CONVERSATION,
            query(
                "membersCursor",
                Shape::of::<String>(),
                "`membersNextCursor` of the page of members before.",
            ),
            query("membersLimit", Shape(members_limit), "The size of the page of members."),
        ],
        answers: &[json(200, THE_CONVERSATION, "The conversation.")],
        refusals: &[NO_CONVERSATION],
        ..PLAIN
    },
    Call {
        method: "PATCH",
        path: "/api/conversations/{id}",
        name: "updateConversation",
        tag: Tag::Conversations,
        who: Who::Admin,
        summary: "Changes a group's title, description and policies",
        text: "What is absent stays. The change is itself an entry: `renamed` for the title, `settings_changed` for \
               the rest.",
        parameters: &[CONVERSATION],
        body: Some(Shape::of::<ConversationPatch>()),
        answers: &[json(200, THE_CONVERSATION, "The conversation as it is now.")],
        refusals: &[NO_CONVERSATION, NOT_AN_ADMIN],
    },
    Call {
        method: "POST",
        path: "/api/conversations/{id}/members",
        name: "addMembers",
        tag: Tag::Conversations,
        who: Who::Admin,
        summary: "Adds members to a group",
        text: "All at once, as one entry `member_added`; who is in it already is passed over. A new member sees what \
               the policy `history` says.",
        parameters: &[CONVERSATION],
        body: Some(Shape::of::<AddMembers>()),
        answers: &[json(200, THE_CONVERSATION, "The conversation as it is now.")],
        refusals: &[
            (
                Code::NotFound,
                "The conversation does not exist, one is not in it, or one of the users does not exist.",
            ),
            NOT_AN_ADMIN,
        ],
    },
    Call {
        method: "DELETE",
        path: "/api/conversations/{id}/members/{userId}",
        name: "removeMember",
        tag: Tag::Conversations,
        who: Who::Member,
        summary: "Removes a member from a group, or leaves it",
        text: "Everyone may leave, naming himself; owners and admins remove members. The removed one's own \
               `member_removed` is the last entry that he sees. When the last owner leaves, the longest-standing \
               admin, else member, follows.",
        parameters: &[CONVERSATION, MEMBER],
        answers: &[empty(204, "Removed, or left.")],
        refusals: &[
            (Code::NotFound, "The conversation does not exist, one is not in it, or the other is no member."),
            (
                Code::Forbidden,
                "One's role does not allow it, or it is no group: a direct conversation is never left.",
            ),
        ],
        ..PLAIN
    },
    Call {
        method: "PATCH",
        path: "/api/conversations/{id}/members/{userId}",
        name: "changeRole",
        tag: Tag::Conversations,
        who: Who::Owner,
        summary: "Gives a member another role",
        text: "There may be several owners; the last one cannot step down.",
        parameters: &[CONVERSATION, MEMBER],
        body: Some(Shape::of::<RolePatch>()),
        answers: &[json(200, THE_CONVERSATION, "The conversation as it is now.")],
        refusals: &[
            (Code::NotFound, "The conversation does not exist, one is not in it, or the other is no member."),
            (Code::Forbidden, "One is no owner, or it is no group."),
            (Code::Conflict, "He is the last owner: make another one first."),
        ],
    },
    Call {
        method: "PATCH",
        path: "/api/conversations/{id}/settings",
        name: "updateSettings",
        tag: Tag::Conversations,
        who: Who::Member,
        summary: "Changes one's own settings of a conversation",
        text: "Muted, pinned, archived: they are one's own, on all devices. What is absent stays.",
        parameters: &[CONVERSATION],
        body: Some(Shape::of::<MemberSettingsPatch>()),
        answers: &[json(200, THE_CONVERSATION, "The conversation with the settings as they are now.")],
        refusals: &[NO_CONVERSATION],
    },
    Call {
        method: "POST",
        path: "/api/conversations/{id}/messages",
        name: "sendMessage",
        tag: Tag::Messages,
        who: Who::Member,
        summary: "Sends a message",
        text: "Answered only when the message is durable. Repeat it with the same `clientSeq` until an answer comes: \
               in one conversation, one `clientSeq` of a device is one message for as long as the message lives.",
        parameters: &[CONVERSATION],
        body: Some(Shape::of::<SendMessage>()),
        answers: &[
            json(201, THE_MESSAGE, "The message."),
            json(200, THE_MESSAGE, "The message, which was sent before, in its present state."),
        ],
        refusals: &[
            NO_CONVERSATION,
            (
                Code::Forbidden,
                "Only owners and admins may send here, or one of the two has blocked the other.",
            ),
            (Code::Conflict, "This `clientSeq` already stands for a message with another content."),
            (Code::TooLarge, "The body has more than 65,536 bytes."),
        ],
    },
    Call {
        path: "/api/conversations/{id}/messages",
        name: "readHistory",
        tag: Tag::Messages,
        who: Who::Member,
        summary: "Reads the history",
        text: "`after` or `before`, not both; with neither, the newest page. Pages are full while `hasMore`.",
        parameters: &[
            CONVERSATION,
            query("after", Shape::of::<Seq>(), "The oldest entries with a greater seq."),
            query("before", Shape::of::<Seq>(), "The newest entries with a smaller seq."),
            LIMIT,
        ],
        answers: &[json(200, Shape::of::<HistoryPage>(), "Entries, ascending.")],
        refusals: &[NO_CONVERSATION],
        ..PLAIN
    },
    Call {
        method: "PUT",
        path: "/api/conversations/{id}/receipts",
        name: "markReceipts",
        tag: Tag::Messages,
        who: Who::Member,
        summary: "Moves one's own watermarks forward",
        text: "A lower one is accepted without effect; one beyond the newest entry is `invalid`.",
        parameters: &[CONVERSATION],
        body: Some(Shape::of::<Mark>()),
        answers: &[empty(204, "Taken.")],
        refusals: &[NO_CONVERSATION],
    },
    Call {
        path: "/api/conversations/{id}/messages/{seq}/receipts",
        name: "listReceipts",
        tag: Tag::Messages,
        who: Who::Member,
        summary: "Tells who received and saw a message, and when",
        parameters: &[
            CONVERSATION,
            path("seq", Shape::of::<Seq>(), "The message."),
            CURSOR,
            query("limit", Shape(members_limit), "The size of the page."),
        ],
        answers: &[json(
            200,
            Shape::of::<Page<MessageReceipt>>(),
            "A page of the members, without the sender, by the time they joined.",
        )],
        refusals: &[(
            Code::NotFound,
            "The conversation does not exist, one is not in it, or the entry is no message that one may see.",
        )],
        ..PLAIN
    },
    Call {
        path: "/api/search",
        name: "searchMessages",
        tag: Tag::Messages,
        summary: "Finds messages by their words",
        text: "All words must be there; case and accents do not matter, and scripts without spaces are found inside a \
               sentence. `\"two words\"` must stand beside each other; `from:USERNAME` (or an id, or `me`), \
               `in:CONVERSATION` (an id), `before:DATE` and `after:DATE` (a day or a moment, UTC; `after` takes it in) \
               narrow it. Only what one may see now is found, in its present state. A message is found about a second \
               after its ack, later while the server has much else to do. A page may be short, or empty, and have a `nextCursor`: the last one has none.",
        parameters: &[
            Parameter {
                name: "q",
                place: Place::RequiredQuery,
                shape: Shape(search_query),
                text: "What to seek: a word at least, or `from:`.",
            },
            query("convoId", Shape::of::<ConvoId>(), "Only in this conversation."),
            query(
                "order",
                Shape::of::<SearchOrder>(),
                "What comes first: `newest` (when absent), or `rank`, short and new messages, among the newest 10,000 \
                 that fit.",
            ),
            LIMIT,
            CURSOR,
        ],
        answers: &[json(
            200,
            Shape::of::<Page<FoundMessage>>(),
            "Messages, each with the piece of it that was found.",
        )],
        refusals: &[NO_CONVERSATION],
        ..PLAIN
    },
    Call {
        path: "/api/events",
        name: "pollEvents",
        tag: Tag::Live,
        summary: "Waits for the events of the socket",
        text: "Without `cursor` it answers at once with a cursor and no events. Using a cursor acknowledges what came \
               before it; the same cursor again gives the same events. Cursors survive restarts and work on every \
               node. Typing and presence come only while one waits, and one is online while one waits.",
        parameters: &[
            query("cursor", Shape::of::<String>(), "From the call before."),
            query(
                "wait",
                Shape(seconds),
                "How many seconds to wait for an event; more than 60 are taken as 60.",
            ),
        ],
        answers: &[json(200, Shape::of::<EventsPage>(), "Events; none when nothing happened in time.")],
        ..PLAIN
    },
    Call {
        path: "/api/gateway",
        name: "findGateway",
        tag: Tag::Live,
        summary: "Says to which node this session best goes",
        text: "Any node serves any session; this spreads them by load, and away from nodes that go down. Ask before the \
               socket is opened, and after it was closed with 4010 or could not be opened; go on to the others in their \
               order when a node does not answer.",
        answers: &[json(200, Shape::of::<Gateway>(), "The node, and the others.")],
        ..PLAIN
    },
    Call {
        path: "/api/ws",
        name: "openSocket",
        tag: Tag::Live,
        who: Who::Anyone,
        summary: "Opens the WebSocket",
        text: "RFC 6455, version 13. The token goes into the first frame, not into this request. What is said on it \
               is described by `/api/asyncapi.json`.",
        answers: &[
            empty(101, "The connection is a WebSocket now."),
            Answer {
                status: 426,
                text: "The request does not ask for a WebSocket of version 13.",
                body: Body::Problem,
            },
        ],
        refusals: &[(Code::Invalid, "The `Sec-WebSocket-Key` is none.")],
        ..PLAIN
    },
    Call {
        path: "/api/openapi.json",
        name: "openapi",
        who: Who::Anyone,
        summary: "Describes the calls: this document",
        answers: &[json(200, Shape(any_object), "OpenAPI 3.1.")],
        ..PLAIN
    },
    Call {
        path: "/api/asyncapi.json",
        name: "asyncapi",
        who: Who::Anyone,
        summary: "Describes the socket",
        answers: &[json(200, Shape(any_object), "AsyncAPI 3.1.")],
        ..PLAIN
    },
    Call {
        path: "/healthz",
        name: "health",
        who: Who::Anyone,
        summary: "Tells whether the process lives",
        answers: &[Answer { status: 200, text: "It does.", body: Body::Text("text/plain") }],
        ..PLAIN
    },
    Call {
        path: "/readyz",
        name: "readiness",
        who: Who::Anyone,
        summary: "Tells whether new clients should come here",
        answers: &[
            Answer { status: 200, text: "They should: `ready`.", body: Body::Text("text/plain") },
            Answer {
                status: 503,
                text: "They should go elsewhere: it is `draining`, or the store that nodes share is \
                    `store_unreachable` from here.",
                body: Body::Text("text/plain"),
            },
        ],
        ..PLAIN
    },
    Call {
        path: "/metrics",
        name: "metrics",
        who: Who::Anyone,
        summary: "Figures for Prometheus",
        answers: &[Answer {
            status: 200,
            text: "OpenMetrics text.",
            body: Body::Text("application/openmetrics-text"),
        }],
        ..PLAIN
    },
];

const fn path(name: &'static str, shape: Shape, text: &'static str) -> Parameter {
    Parameter { name, place: Place::Path, shape, text }
}

const fn query(name: &'static str, shape: Shape, text: &'static str) -> Parameter {
    Parameter { name, place: Place::Query, shape, text }
}

const fn json(status: u16, shape: Shape, text: &'static str) -> Answer {
    Answer { status, text, body: Body::Json(shape) }
}

const fn empty(status: u16, text: &'static str) -> Answer {
    Answer { status, text, body: Body::Empty }
}

const CONVERSATION: Parameter = path("id", Shape::of::<ConvoId>(), "The conversation.");
const USER: Parameter = path("id", Shape::of::<UserId>(), "The user.");
const MEMBER: Parameter = path("userId", Shape::of::<UserId>(), "The member.");
const CURSOR: Parameter =
    query("cursor", Shape::of::<String>(), "`nextCursor` of the page before; absent: the first page.");
const LIMIT: Parameter = query("limit", Shape(page_limit), "The size of the page.");

const THE_CONVERSATION: Shape = Shape::of::<ConversationAnswer>();
const THE_MESSAGE: Shape = Shape::of::<MessageAnswer>();

const NO_CONVERSATION: (Code, &str) =
    (Code::NotFound, "The conversation does not exist, or one is not in it: the two cannot be told apart.");
const NO_USER: (Code, &str) = (Code::NotFound, "There is no such user.");
const NOT_AN_ADMIN: (Code, &str) = (Code::Forbidden, "One is neither owner nor admin, or it is no group.");

fn page_limit(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "integer", "minimum": 1, "maximum": rules::PAGE_MAX, "default": rules::PAGE_DEFAULT })
}

fn members_limit(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "integer", "minimum": 1, "maximum": rules::PAGE_MAX, "default": rules::PAGE_MAX })
}

fn search_query(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "string", "minLength": 1 })
}

fn seconds(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "integer", "minimum": 0, "default": 25 })
}

fn any_object(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "object" })
}

/// A call of which nothing is said yet; the table says what differs.
const PLAIN: Call = Call {
    method: "GET",
    path: "",
    name: "",
    tag: Tag::Service,
    who: Who::User,
    summary: "",
    text: "",
    parameters: &[],
    body: None,
    answers: &[],
    refusals: &[],
};
