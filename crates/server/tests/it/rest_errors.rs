//! What is refused, and how it is told: problem documents, the same everywhere.

use reqwest::Method;
use serde_json::{Value, json};

use crate::asking::{path, told};
use crate::harness::{Answer, Server, User};

const NOBODY: &str = "0198f3a2-7c4e-7b1a-9d3e-5f6a7b8c9d0e";

/// Sends bytes as JSON.
async fn post_bytes(server: &Server, user: &User, to: &str, body: impl Into<reqwest::Body>) -> Answer {
    let token = format!("Bearer {}", user.token);
    let headers = [("authorization", token.as_str()), ("content-type", "application/json")];
    server.call_raw(Method::POST, to, &headers, body).await
}

/// The calls of the description: method, path with ids filled in, and the operation.
async fn calls(server: &Server) -> Vec<(Method, String, Value)> {
    let openapi = server.call(Method::GET, "/api/openapi.json", None, None).await.expect(200).body;
    let mut calls = Vec::new();
    for (path, operations) in openapi["paths"].as_object().unwrap() {
        let path = path.replace("{seq}", "1");
        let path = path.split('/').map(|part| if part.starts_with('{') { NOBODY } else { part });
        let path = path.collect::<Vec<_>>().join("/");
        for (method, operation) in operations.as_object().unwrap() {
            if let Ok(method) = method.to_uppercase().parse::<Method>()
                && operation.get("responses").is_some()
            {
                calls.push((method, path.clone(), operation.clone()));
            }
        }
    }
    assert!(calls.len() > 25, "{}", calls.len());
    calls
}

#[tokio::test]
async fn a_problem_is_a_document_of_rfc_9457_that_says_what_its_status_says() {
    let server = Server::start().await;
    let ana = server.user("ana").await;
    let answer = ana.get(&server, &path(NOBODY, "")).await.expect_problem(404, "not_found");
    assert_eq!(
        answer.body,
        json!({
            "type": "about:blank",
            "title": "Not found",
            "status": 404,
            "code": "not_found",
            "detail": "this conversation does not exist or you are not in it",
        })
    );
    let answer = ana.post(&server, "/api/conversations", json!({})).await.expect_problem(400, "invalid");
    assert_eq!(answer.body["status"], 400);
    assert!(answer.body["detail"].as_str().unwrap().contains("type"), "{}", answer.text);
}

#[tokio::test]
async fn every_call_but_the_open_ones_wants_a_token_that_is_valid() {
    let server = Server::start().await;
    let mut closed = 0;
    for (method, path, operation) in calls(&server).await {
        let is_open = operation["security"] == json!([]) || operation["security"] == json!([{}]);
        if is_open {
            continue;
        }
        closed += 1;
        for token in ["", "Bearer", "Bearer ", "Bearer garbage", "Basic YTpi", "Bearer a b"] {
            let headers = [("authorization", token), ("content-type", "application/json")];
            let headers = if token.is_empty() { &headers[1..] } else { &headers[..] };
            let answer = server.call_raw(method.clone(), &path, headers, "{}").await;
            assert_eq!(answer.status, 401, "{method} {path} {token:?}");
            let answer = answer.expect_problem(401, "unauthenticated");
            assert_eq!(answer.headers["www-authenticate"], "Bearer");
        }
    }
    assert!(closed > 20, "{closed}");
}

#[tokio::test]
async fn the_scheme_of_a_token_is_read_in_any_case() {
    let server = Server::start().await;
    let ana = server.user("ana").await;
    for scheme in ["Bearer", "bearer", "BEARER"] {
        let token = format!("{scheme} {}", ana.token);
        server.call_raw(Method::GET, "/api/users/me", &[("authorization", &token)], "").await.expect(200);
    }
}

#[tokio::test]
async fn a_refresh_token_is_no_access_token() {
    let server = Server::start().await;
    let ana = server.user("ana").await;
    let confused = User { token: ana.refresh_token.clone(), ..ana.clone() };
    confused.get(&server, "/api/users/me").await.expect_problem(401, "unauthenticated");
}

#[tokio::test]
async fn who_is_in_a_conversation_not_is_told_what_he_is_told_of_none() {
    let server = Server::start().await;
    let (ana, bo, eva) = (server.user("ana").await, server.user("bo1").await, server.user("eva").await);
    let group = server.group(&ana, &[&bo]).await;
    let direct = ana.direct(&server, &bo).await;
    for convo in [&group, &direct] {
        ana.send(&server, convo, 1, "a secret").await;
        for (method, below, body) in [
            (Method::GET, String::new(), None),
            (Method::GET, "?membersLimit=1".into(), None),
            (Method::PATCH, String::new(), Some(json!({ "title": "x" }))),
            (Method::PATCH, String::new(), Some(json!({ "about": "x" }))),
            (Method::POST, "/members".into(), Some(json!({ "userIds": [eva.id] }))),
            (Method::POST, "/members".into(), Some(json!({ "userIds": [NOBODY] }))),
            (Method::DELETE, format!("/members/{}", eva.id), None),
            (Method::DELETE, format!("/members/{}", bo.id), None),
            (Method::DELETE, format!("/members/{NOBODY}"), None),
            (Method::PATCH, format!("/members/{}", bo.id), Some(json!({ "role": "admin" }))),
            (Method::PATCH, "/settings".into(), Some(json!({ "pinned": true }))),
            (Method::POST, "/messages".into(), Some(json!({ "clientSeq": 1, "body": "x" }))),
            (Method::POST, "/messages".into(), Some(json!({ "clientSeq": 1, "body": "x", "replyTo": 99 }))),
            (Method::GET, "/messages".into(), None),
            (Method::GET, "/messages?after=0&limit=1".into(), None),
            (Method::PUT, "/receipts".into(), Some(json!({ "readSeq": 1 }))),
            (Method::PUT, "/receipts".into(), Some(json!({ "readSeq": 99 }))),
            (Method::GET, "/messages/2/receipts".into(), None),
            (Method::GET, "/messages/99/receipts".into(), None),
        ] {
            let ask = async |convo: &str| {
                server.call(method.clone(), &path(convo, &below), Some(&eva.token), body.clone()).await
            };
            let (theirs, none) = (ask(convo).await, ask(NOBODY).await);
            assert_eq!(told(&theirs), told(&none), "{method} {below}");
            theirs.expect_problem(404, "not_found");
        }
    }
    assert_eq!(ana.entries(&server, &group).await.len(), 2);
}

#[tokio::test]
async fn what_is_not_json_is_invalid() {
    let server = Server::start().await;
    let ana = server.user("ana").await;
    for body in [
        &b""[..],
        b"{",
        b"null",
        b"[]",
        b"7",
        b"\"text\"",
        b"{\"type\":\"group\",\"members\":[]",
        b"{\"type\":\"group\",\"members\":[]}}",
        b"{'type':'group','members':[]}",
        b"{\"type\":\"group\",\"members\":[],}",
        b"type=group&members=",
        b"{\"type\":\"group\",\"members\":[],\"title\":\"\xff\xfe\"}",
        b"{\"type\":\"group\",\"members\":[],\"title\":\"\\ud83d\"}",
        b"\xef\xbb\xbf{\"type\":\"group\",\"members\":[]}",
        b"\x00",
    ] {
        let answer = post_bytes(&server, &ana, "/api/conversations", body).await;
        assert_eq!(answer.status, 400, "{}", String::from_utf8_lossy(body));
        answer.expect_problem(400, "invalid");
    }
}

#[tokio::test]
async fn a_body_says_that_it_is_json() {
    let server = Server::start().await;
    let body = r#"{"username":"ana","password":"correct horse battery"}"#;
    for content_type in [None, Some("text/plain"), Some("application/x-www-form-urlencoded"), Some("garbage")]
    {
        let headers: Vec<_> =
            content_type.into_iter().map(|content_type| ("content-type", content_type)).collect();
        let answer = server.call_raw(Method::POST, "/api/users", &headers, body).await;
        let answer = answer.expect_problem(400, "invalid");
        assert!(answer.body["detail"].as_str().unwrap().contains("application/json"), "{}", answer.text);
    }
    let headers = [("content-type", "application/json; charset=utf-8")];
    server.call_raw(Method::POST, "/api/users", &headers, body).await.expect(201);
}

#[tokio::test]
async fn fields_that_are_not_known_are_ignored() {
    let server = Server::start().await;
    let body =
        json!({ "username": "ana", "password": "correct horse battery", "captcha": { "deep": [1, null] } });
    let ana = User::of(&server.call(Method::POST, "/api/users", None, Some(body)).await.expect(201));
    let bo = server.user("bo1").await;
    let body = json!({ "type": "group", "members": [bo.id], "colour": "red", "id": NOBODY, "lastSeq": 7 });
    let answer = ana.post(&server, "/api/conversations?colour=red", body).await.expect(201);
    let convo = answer.body["conversation"]["id"].as_str().unwrap();
    assert_ne!(convo, NOBODY);
    let message = json!({ "clientSeq": 1, "body": "a", "seq": 99, "senderId": bo.id, "ts": "1970-01-01T00:00:00.000Z" });
    let sent = ana.try_send(&server, convo, message).await.expect(201).body["message"].clone();
    assert_eq!((&sent["seq"], &sent["senderId"]), (&json!(2), &json!(ana.id)));
    ana.mark(&server, convo, json!({ "readSeq": 1, "x": 1 })).await.expect(204);
    ana.patch(&server, &path(convo, "/settings"), json!({ "pinned": true, "x": {} })).await.expect(200);
    ana.change(&server, json!({ "username": "other", "id": NOBODY, "about": "me" })).await;
    let me = ana.get(&server, "/api/users/me").await.expect(200).body;
    assert_eq!((&me["user"]["username"], &me["user"]["id"]), (&json!("ana"), &json!(ana.id)));
}

#[tokio::test]
async fn a_body_that_is_larger_than_any_call_takes_is_too_large() {
    let server = Server::start().await;
    let ana = server.user("ana").await;
    let group = server.group(&ana, &[]).await;
    let large = format!(r#"{{"clientSeq":1,"body":"{}"}}"#, "a".repeat(600_000));
    for to in [
        "/api/users".to_owned(),
        "/api/sessions".to_owned(),
        "/api/sessions/refresh".to_owned(),
        "/api/conversations".to_owned(),
        path(&group, "/messages"),
        path(&group, "/members"),
    ] {
        post_bytes(&server, &ana, &to, large.clone()).await.expect_problem(413, "too_large");
    }
    ana.send(&server, &group, 1, "the node goes on").await;
}

#[tokio::test]
async fn json_of_any_depth_is_read_or_refused_and_the_node_goes_on() {
    let server = Server::start().await;
    let ana = server.user("ana").await;
    let group = server.group(&ana, &[]).await;
    for (open, close) in [("[", "]"), (r#"{"a":"#, "}")] {
        for depth in [64, 1_000, 50_000] {
            let deep = format!("{}0{}", open.repeat(depth), close.repeat(depth));
            let to = path(&group, "/messages");
            post_bytes(&server, &ana, &to, deep.clone()).await.expect_problem(400, "invalid");
            let ignored = format!(r#"{{"x":{deep},"clientSeq":1,"body":"deep"}}"#);
            let status = post_bytes(&server, &ana, &to, ignored).await.status.as_u16();
            assert!(matches!(status, 200 | 201 | 400), "{status}");
            post_bytes(&server, &ana, &to, open.repeat(depth)).await.expect_problem(400, "invalid");
        }
    }
    ana.send(&server, &group, 2, "the node goes on").await;
}

#[tokio::test]
async fn a_method_that_a_path_does_not_know_is_refused_with_those_that_it_does() {
    let server = Server::start().await;
    let ana = server.user("ana").await;
    for (method, at, allowed) in [
        (Method::PUT, "/api/users".to_owned(), &["GET", "POST"][..]),
        (Method::DELETE, "/api/users/me".to_owned(), &["GET", "PATCH"]),
        (Method::GET, "/api/sessions/refresh".to_owned(), &["POST"]),
        (Method::POST, "/api/sessions/current".to_owned(), &["DELETE"]),
        (Method::DELETE, "/api/conversations".to_owned(), &["GET", "POST"]),
        (Method::PUT, path(NOBODY, ""), &["GET", "PATCH"]),
        (Method::GET, path(NOBODY, "/members"), &["POST"]),
        (Method::PUT, path(NOBODY, "/messages"), &["GET", "POST"]),
        (Method::POST, path(NOBODY, "/receipts"), &["PUT"]),
        (Method::POST, "/api/events".to_owned(), &["GET"]),
        (Method::POST, "/api/ws".to_owned(), &["GET"]),
        (Method::POST, "/healthz".to_owned(), &["GET"]),
        (Method::OPTIONS, "/api/users/me".to_owned(), &["GET", "PATCH"]),
        ("BREW".parse().unwrap(), "/metrics".to_owned(), &["GET"]),
    ] {
        let answer =
            server.call(method.clone(), &at, Some(&ana.token), None).await.expect_problem(405, "invalid");
        assert_eq!(answer.body["status"], 405);
        let allow = answer.headers["allow"].to_str().unwrap();
        let mut allow: Vec<&str> =
            allow.split(',').map(str::trim).filter(|method| *method != "HEAD").collect();
        allow.sort_unstable();
        assert_eq!(allow, allowed, "{method} {at}");
    }
}

#[tokio::test]
async fn what_is_at_no_path_is_not_found() {
    let server = Server::start().await;
    let ana = server.user("ana").await;
    let long = format!("/api/{}", "x".repeat(8_000));
    for at in
        ["/", "/api", "/api/", "/api/nothing", "/api/users/", "/api/v1/users", "/nothing?token=secret", &long]
    {
        let answer = ana.get(&server, at).await.expect_problem(404, "not_found");
        assert!(!answer.text.contains("secret") && answer.text.len() < 1_000);
    }
    for id in ["garbage", "%00", "%ff", "..", &"x".repeat(300), "0198f3a27c4e7b1a9d3e5f6a7b8c9d0e%20"] {
        ana.get(&server, &path(id, "/messages")).await.expect_problem(404, "not_found");
    }
}

#[tokio::test]
async fn a_request_that_is_no_handshake_is_told_so_in_status_and_body() {
    let server = Server::start().await;
    let upgrade = [("connection", "upgrade"), ("upgrade", "websocket")];
    let version = |version| ("sec-websocket-version", version);
    for headers in [
        vec![],
        vec![version("13")],
        vec![upgrade[0], upgrade[1], version("8"), ("sec-websocket-key", "AAAAAAAAAAAAAAAAAAAAAA==")],
    ] {
        let answer =
            server.call_raw(Method::GET, "/api/ws", &headers, "").await.expect_problem(426, "invalid");
        assert_eq!(answer.body["status"], 426);
        assert_eq!(
            (&answer.headers["upgrade"], &answer.headers["sec-websocket-version"]),
            (&"websocket".parse().unwrap(), &"13".parse().unwrap())
        );
    }
    for key in ["", "short", "not base64 at all!!!!!!!=="] {
        let headers = [upgrade[0], upgrade[1], version("13"), ("sec-websocket-key", key)];
        let answer =
            server.call_raw(Method::GET, "/api/ws", &headers, "").await.expect_problem(400, "invalid");
        assert_eq!(answer.body["status"], 400);
    }
}

#[tokio::test]
async fn a_head_request_is_answered_as_get_without_the_body() {
    let server = Server::start().await;
    let ana = server.user("ana").await;
    let answer = server.call(Method::HEAD, "/healthz", None, None).await.expect(200);
    assert_eq!(answer.text, "");
    let token = format!("Bearer {}", ana.token);
    let answer = server.call_raw(Method::HEAD, "/api/conversations", &[("authorization", &token)], "").await;
    assert_eq!((answer.status.as_u16(), answer.text.as_str()), (200, ""));
}
