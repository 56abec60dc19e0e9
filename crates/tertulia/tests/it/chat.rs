//! `tertulia chat --plain`, as pipes meet it.

use std::io::Write as _;
use std::path::Path;
use std::process::Stdio;

use crate::process::{DEADLINE, Server, free_port, tertulia};

struct Chat<'a> {
    port: u16,
    state: &'a Path,
}

impl Chat<'_> {
    /// Says these lines as `user`; gives back the exit status, what was said to him and what went on.
    fn run(&self, user: &str, password: Option<&str>, more: &[&str], lines: &str) -> (i32, String, String) {
        let mut command = tertulia();
        command
            .args(["chat", "--plain", "--server", &format!("http://127.0.0.1:{}", self.port), "--user", user])
            .args(more)
            .env("XDG_STATE_HOME", self.state)
            .env_remove("TERTULIA_PASSWORD")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        if let Some(password) = password {
            command.env("TERTULIA_PASSWORD", password);
        }
        let mut child = command.spawn().unwrap();
        // Who was not let in has closed the pipe already.
        drop(child.stdin.take().unwrap().write_all(lines.as_bytes()));
        let begun = std::time::Instant::now();
        let output = child.wait_with_output().unwrap();
        assert!(begun.elapsed() < DEADLINE);
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
    }
}

#[test]
fn two_people_talk_through_pipes_and_nobody_is_told_anything_twice() {
    let dir = tempfile::tempdir().unwrap();
    let port = free_port();
    let server = Server::start(port, &dir.path().join("data"));
    let chat = Chat { port, state: &dir.path().join("state") };
    let register = &["--register"][..];
    let (status, ..) = chat.run("bob", Some("correct-horse"), register, "");
    assert_eq!(status, 0);

    let lines = "bob: hello: you\n/group \"green tea\" bob\nto the \x1b[2Jgroup\n";
    let (status, said, went_on) = chat.run("ana", Some("correct-horse"), register, lines);
    assert_eq!(status, 0, "{went_on}");
    assert_eq!(said, "bob #2 ana: hello: you\ngreen tea #2 ana: to the ␛[2Jgroup\n");

    let (status, said, went_on) = chat.run("bob", None, &[], "ana: hello back\n");
    assert_eq!(status, 0, "{went_on}");
    let expected = "green tea #2 ana: to the ␛[2Jgroup\nana #2 ana: hello: you\nana #3 bob: hello back\n";
    assert_eq!(said, expected, "the session was kept, and what was not read comes first");

    server.kill();
    let _server = Server::start(port, &dir.path().join("data"));
    let (status, said, went_on) = chat.run("ana", None, &[], "");
    assert_eq!((status, said.as_str()), (0, "bob #3 bob: hello back\n"), "{went_on}");
    let (status, said, went_on) = chat.run("ana", None, &[], "");
    assert_eq!((status, said.as_str()), (0, ""), "{went_on}");
}

#[test]
fn what_cannot_be_said_is_told_and_ends_with_1() {
    let dir = tempfile::tempdir().unwrap();
    let port = free_port();
    let _server = Server::start(port, &dir.path().join("data"));
    let chat = Chat { port, state: dir.path() };
    let (status, said, went_on) = chat.run("bob", Some("correct-horse"), &["--register"], "nobody: hi\n");
    assert_eq!((status, said.as_str()), (1, ""));
    assert!(went_on.contains("there is no user and no group nobody"), "{went_on}");

    let (status, _, went_on) = chat.run("eve", Some("correct-horse"), &[], "");
    assert_eq!((status, went_on.lines().count()), (1, 1), "{went_on}");
    assert!(went_on.contains("there is no user eve, or the password is another"), "{went_on}");

    let (status, _, went_on) = chat.run("no good", None, &[], "");
    assert_eq!((status, went_on.lines().count()), (2, 1), "{went_on}");
}
