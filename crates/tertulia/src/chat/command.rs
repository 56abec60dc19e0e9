//! What a line that is typed means: a message, or a command after a `/`.

/// What to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Command {
    /// A message to the conversation that is open.
    Say(String),
    /// An answer to one of its messages.
    Reply {
        seq: u64,
        text: String,
    },
    /// Open a direct conversation.
    Direct(String),
    /// Found a group.
    Group {
        title: String,
        users: Vec<String>,
    },
    Add(Vec<String>),
    Remove(String),
    Leave,
    Rename(String),
    Search(String),
    Who,
    Help,
    Quit,
}

/// The commands, as the help shows them.
pub(super) const HELP: [(&str, &str); 11] = [
    ("/direct USER", "talk with one user"),
    ("/group TITLE USER…", "found a group; a title of several words stands in \"quotes\""),
    ("/add USER…", "add members to this group"),
    ("/remove USER", "remove a member of this group"),
    ("/rename TITLE", "give this group another title"),
    ("/leave", "leave this group"),
    ("/reply SEQ text", "answer the message #SEQ"),
    ("/search WORDS", "find messages; also \"a phrase\", from:USER, before:DATE, after:DATE"),
    ("/who", "show who is in this conversation"),
    ("/help", "show this; //text says /text"),
    ("/quit", "leave the program; everything stays on the server"),
];

/// Reads a line.
///
/// # Errors
/// One line that says how the command is written.
pub(super) fn parse(line: &str) -> Result<Command, String> {
    let Some(command) = line.strip_prefix('/') else { return Ok(Command::Say(line.to_owned())) };
    if command.starts_with('/') {
        return Ok(Command::Say(command.to_owned()));
    }
    let (name, rest) = command.split_once(char::is_whitespace).unwrap_or((command, ""));
    let rest = rest.trim();
    let usage = || {
        let form = HELP.iter().find(|(form, _)| form[1..].split(' ').next() == Some(name));
        form.map_or_else(
            || format!("there is no /{name}; /help shows what there is"),
            |(form, _)| format!("write {form}"),
        )
    };
    let users = |text: &str| {
        text.split([' ', ',']).filter(|user| !user.is_empty()).map(user_name).collect::<Vec<_>>()
    };
    match (name, rest.is_empty()) {
        ("direct", false) => Ok(Command::Direct(user_name(rest))),
        ("group", false) => {
            let (title, rest) = first_word(rest).ok_or_else(usage)?;
            Ok(Command::Group { title, users: users(rest) })
        }
        ("add", false) => Ok(Command::Add(users(rest))),
        ("remove", false) => Ok(Command::Remove(user_name(rest))),
        ("rename", false) => {
            let title = first_word(rest).filter(|(_, more)| more.is_empty()).map(|(title, _)| title);
            Ok(Command::Rename(title.unwrap_or_else(|| rest.to_owned())))
        }
        ("reply", false) => {
            let (seq, text) = rest.split_once(char::is_whitespace).ok_or_else(usage)?;
            let seq = seq.trim_start_matches('#').parse().map_err(|_| usage())?;
            Ok(Command::Reply { seq, text: text.trim_start().to_owned() })
        }
        ("search", false) => Ok(Command::Search(rest.to_owned())),
        ("leave", true) => Ok(Command::Leave),
        ("who", true) => Ok(Command::Who),
        ("help", _) => Ok(Command::Help),
        ("quit" | "exit", true) => Ok(Command::Quit),
        _ => Err(usage()),
    }
}

/// Usernames are lower case, and people write `@` before them.
fn user_name(text: &str) -> String {
    text.trim().trim_start_matches('@').to_ascii_lowercase()
}

/// The first word, or what stands in quotes; and what follows it.
fn first_word(text: &str) -> Option<(String, &str)> {
    let (word, rest) = match text.strip_prefix('"') {
        Some(quoted) => quoted.split_once('"')?,
        None => text.split_once(char::is_whitespace).unwrap_or((text, "")),
    };
    let word = word.trim();
    (!word.is_empty()).then(|| (word.to_owned(), rest.trim()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_a_message_unless_it_begins_with_a_slash() {
        assert_eq!(parse(" hi / there "), Ok(Command::Say(" hi / there ".into())));
        assert_eq!(parse("//etc/hosts"), Ok(Command::Say("/etc/hosts".into())));
    }

    #[test]
    fn each_command_is_read() {
        let users = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        for (line, command) in [
            ("/direct @Bo", Command::Direct("bo".into())),
            ("/group tea bo cy", Command::Group { title: "tea".into(), users: users(&["bo", "cy"]) }),
            (
                "/group \"green tea\" bo, cy",
                Command::Group { title: "green tea".into(), users: users(&["bo", "cy"]) },
            ),
            ("/add bo  cy", Command::Add(users(&["bo", "cy"]))),
            ("/remove bo", Command::Remove("bo".into())),
            ("/leave", Command::Leave),
            ("/rename green tea", Command::Rename("green tea".into())),
            ("/reply #12 yes, that", Command::Reply { seq: 12, text: "yes, that".into() }),
            ("/search \"green tea\" from:bo", Command::Search("\"green tea\" from:bo".into())),
            ("/who", Command::Who),
            ("/help", Command::Help),
            ("/quit", Command::Quit),
        ] {
            assert_eq!(parse(line), Ok(command), "{line}");
        }
    }

    #[test]
    fn what_is_wrong_is_answered_with_the_form() {
        for (line, answer) in [
            ("/direct", "write /direct USER"),
            ("/reply twelve yes", "write /reply SEQ text"),
            ("/reply 12", "write /reply SEQ text"),
            ("/search", "write /search WORDS"),
            ("/leave now", "write /leave"),
            ("/dance", "there is no /dance; /help shows what there is"),
        ] {
            assert_eq!(parse(line), Err(answer.into()), "{line}");
        }
    }
}
