//! The REST calls: what there is to say of one, and (in [`CALLS`]) of all of them.

mod table;

pub use table::CALLS;

use super::schemas::Shape;
use crate::problem::Code;

/// A call: one method on one path.
#[derive(Debug, Clone, Copy)]
pub struct Call {
    /// In capitals.
    pub method: &'static str,
    /// With `{name}` for each part that varies.
    pub path: &'static str,
    /// Its name in generated code.
    pub name: &'static str,
    /// Where it stands in the documentation.
    pub tag: Tag,
    /// Who may.
    pub who: Who,
    /// One line.
    pub summary: &'static str,
    /// What one has to know to use it.
    pub text: &'static str,
    /// In the path and in the query.
    pub parameters: &'static [Parameter],
    /// What it reads.
    pub body: Option<Shape>,
    /// What it answers when all is well.
    pub answers: &'static [Answer],
    /// What can go wrong with this call in particular.
    pub refusals: &'static [(Code, &'static str)],
}

/// A chapter of the documentation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tag {
    /// Accounts and what devices hold.
    Sessions,
    /// Who there is.
    Users,
    /// Conversations, members, settings.
    Conversations,
    /// Messages, history, search, receipts.
    Messages,
    /// What happens, as it happens.
    Live,
    /// For operators and programs.
    Service,
}

impl Tag {
    /// All of them, in the order of the documentation, with a line about each.
    pub const ALL: [(Self, &'static str); 6] = [
        (Self::Sessions, "Registration, login, tokens and devices."),
        (Self::Users, "Profiles, privacy, search and blocks."),
        (Self::Conversations, "Direct conversations and groups: members, roles, settings."),
        (Self::Messages, "Sending, history, search and receipts."),
        (Self::Live, "Events as they happen: the socket (described by AsyncAPI), and long-polling."),
        (Self::Service, "Descriptions, health and metrics."),
    ];

    /// Its heading.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Sessions => "Sessions",
            Self::Users => "Users",
            Self::Conversations => "Conversations",
            Self::Messages => "Messages",
            Self::Live => "Live",
            Self::Service => "Service",
        }
    }
}

/// Who may call; to all others of a conversation it does not exist.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Who {
    /// Also without a token.
    Anyone,
    /// Who is logged in.
    User,
    /// Who is in the conversation.
    Member,
    /// Its owners and admins.
    Admin,
    /// Its owners.
    Owner,
}

impl Who {
    /// In words.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Anyone => "anyone, without a token",
            Self::User => "every user",
            Self::Member => "the members of the conversation",
            Self::Admin => "owners and admins of the group",
            Self::Owner => "owners of the group",
        }
    }
}

/// A part of the path or of the query.
#[derive(Debug, Clone, Copy)]
pub struct Parameter {
    /// Its name.
    pub name: &'static str,
    /// Where it stands.
    pub place: Place,
    /// What it may be.
    pub shape: Shape,
    /// What it means.
    pub text: &'static str,
}

/// Where a parameter stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// In the path; always there.
    Path,
    /// In the query.
    Query,
    /// In the query, and the call makes no sense without.
    RequiredQuery,
}

/// An answer that is not one of the [`problems`](Call::problems).
#[derive(Debug, Clone, Copy)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// When, or what.
    pub text: &'static str,
    /// What is in it.
    pub body: Body,
}

/// The body of an answer.
#[derive(Debug, Clone, Copy)]
pub enum Body {
    /// None.
    Empty,
    /// JSON.
    Json(Shape),
    /// A problem document: a refusal whose status is not the one of its code.
    Problem,
    /// Text of this media type.
    Text(&'static str),
}

impl Call {
    /// The call that a request is; `path` is a real one, with or without its query.
    pub fn find(method: &str, path: &str) -> Option<&'static Self> {
        let path = path.split_once('?').map_or(path, |(path, _)| path);
        let same_path = |call: &&Self| {
            let (mut ours, mut theirs) = (call.path.split('/'), path.split('/'));
            loop {
                match (ours.next(), theirs.next()) {
                    (None, None) => return true,
                    (Some(our), Some(their)) if our == their || our.starts_with('{') => {}
                    _ => return false,
                }
            }
        };
        // `/api/users/me` is nobody's id: of two that fit, the one with fewer braces is meant.
        let fitting = CALLS.iter().filter(|call| call.method == method).filter(same_path);
        fitting.min_by_key(|call| call.path.matches('{').count())
    }

    /// All that can go wrong, in the order of the codes: what every call of its kind has in common, and its own.
    pub fn problems(&self) -> Vec<(Code, Option<&'static str>)> {
        let own = |code| self.refusals.iter().find(|refusal| refusal.0 == code).map(|refusal| refusal.1);
        let works = self.tag != Tag::Service;
        let common = |code| match code {
            Code::Unauthenticated => self.who != Who::Anyone,
            Code::Invalid => self.body.is_some() || !self.parameters.is_empty(),
            Code::TooLarge => self.body.is_some(),
            Code::RateLimited | Code::Unavailable => works,
            // Browsers say from which page they come, and not every page may.
            Code::Forbidden => true,
            Code::NotFound | Code::Conflict => false,
        };
        let codes = Code::ALL.into_iter().filter(|&code| own(code).is_some() || common(code));
        codes.map(|code| (code, own(code))).collect()
    }
}
