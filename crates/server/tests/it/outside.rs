//! What is seen from outside `/api`'s calls: health, metrics, the descriptions, origins, ids of requests.

use reqwest::Method;
use serde_json::{Value, json};

use crate::harness::{Answer, Server};

const LISTED: &str = "https://chat.example.org";

async fn get(server: &Server, path: &str, headers: &[(&str, &str)]) -> Answer {
    server.call_raw(Method::GET, path, headers, "").await
}

/// A sample of the Prometheus text: name, labels, value.
fn samples(text: &str) -> Vec<(String, String, f64)> {
    let mut samples = Vec::new();
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.last(), Some(&"# EOF"));
    for line in &lines[..lines.len() - 1] {
        if let Some(comment) = line.strip_prefix("# ") {
            let mut words = comment.split(' ');
            assert!(matches!(words.next(), Some("HELP" | "TYPE" | "UNIT")), "{line}");
            assert!(words.next().is_some_and(|name| name.starts_with("tertulia_")), "{line}");
            continue;
        }
        let (series, value) = line.rsplit_once(' ').unwrap();
        let (name, labels) = match series.split_once('{') {
            Some((name, labels)) => (name, labels.strip_suffix('}').unwrap()),
            None => (series, ""),
        };
        assert!(name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_'), "{line}");
        samples.push((name.to_owned(), labels.to_owned(), value.parse().unwrap()));
    }
    samples
}

#[tokio::test]
async fn a_node_that_runs_is_alive_and_ready_for_anybody() {
    let server = Server::start().await;
    for path in ["/healthz", "/readyz"] {
        let answer = get(&server, path, &[]).await.expect(200);
        assert!(answer.headers["content-type"].to_str().unwrap().starts_with("text/plain"));
    }
}

#[tokio::test]
async fn metrics_can_be_read_and_count_what_happens() {
    let server = Server::start().await;
    let ana = server.user("ana").await;
    let group = server.group(&ana, &[]).await;
    let (_socket, _) = server.connect(&ana).await;
    for number in 1..=3 {
        ana.send(&server, &group, number, "counted").await;
    }
    ana.get(&server, "/api/nothing").await.expect(404);
    let answer = get(&server, "/metrics", &[]).await.expect(200);
    assert!(answer.headers["content-type"].to_str().unwrap().starts_with("application/openmetrics-text"));
    let samples = samples(&answer.text);
    let value = |name: &str, label: &str| {
        let found = samples.iter().find(|(of, labels, _)| of == name && labels.contains(label));
        found.unwrap_or_else(|| panic!("no {name} {label} in\n{}", answer.text)).2
    };
    for name in [
        "tertulia_build_info",
        "tertulia_send_ack_seconds_count",
        "tertulia_append_seconds_count",
        "tertulia_append_batch_intents_sum",
        "tertulia_append_failures_total",
        "tertulia_lane_waiting_intents",
        "tertulia_http_request_seconds_count",
        "tertulia_connections_refused_total",
        "tertulia_store_figure",
        "tertulia_gaps_total",
        "tertulia_readers_lagged_total",
        "tertulia_live_holes_total",
        "tertulia_drops_total",
        "tertulia_long_polls",
        "tertulia_conversations_live",
        "tertulia_readers_lagging",
    ] {
        assert!(value(name, "") >= 0.0, "{name}");
    }
    assert!(value("tertulia_deliveries_total", "") >= 3.0);
    assert!((value("tertulia_sockets", ""), value("tertulia_users_present", "")) == (1.0, 1.0));
    assert!(value("tertulia_socket_connects_total", r#"kind="connect""#) >= 1.0);
    let sends = r#"method="POST",route="/api/conversations/{id}/messages",status="201""#;
    assert!(value("tertulia_http_requests_total", sends) >= 3.0);
    assert!(value("tertulia_http_requests_total", r#"route="unknown",status="404""#) >= 1.0);
    assert!(!answer.text.contains(&group) && !answer.text.contains(&ana.id));
}

#[tokio::test]
async fn the_descriptions_are_served_to_anybody_and_name_every_call_and_event() {
    let server = Server::start().await;
    let openapi = get(&server, "/api/openapi.json", &[]).await.expect(200);
    assert_eq!(openapi.headers["content-type"], "application/json");
    assert!(openapi.body["openapi"].as_str().unwrap().starts_with("3.1."));
    for (path, method) in [
        ("/api/users", "post"),
        ("/api/sessions", "post"),
        ("/api/sessions/refresh", "post"),
        ("/api/sessions/{deviceId}", "delete"),
        ("/api/users/{id}/block", "put"),
        ("/api/conversations", "get"),
        ("/api/conversations/{id}", "patch"),
        ("/api/conversations/{id}/members/{userId}", "delete"),
        ("/api/conversations/{id}/settings", "patch"),
        ("/api/conversations/{id}/messages", "post"),
        ("/api/conversations/{id}/receipts", "put"),
        ("/api/conversations/{id}/messages/{seq}/receipts", "get"),
        ("/api/events", "get"),
        ("/api/ws", "get"),
        ("/metrics", "get"),
    ] {
        assert!(openapi.body["paths"][path][method].is_object(), "{method} {path}");
    }
    let asyncapi = get(&server, "/api/asyncapi.json", &[]).await.expect(200);
    assert_eq!(asyncapi.headers["content-type"], "application/json");
    assert!(asyncapi.body["asyncapi"].as_str().unwrap().starts_with("3."));
    for event in ["send_message", "message_ack", "presence_subscribe", "conversation_update", "gap"] {
        assert!(asyncapi.text.contains(&format!("\"{event}\"")), "{event}");
    }
}

#[tokio::test]
async fn a_page_may_use_only_the_server_that_it_came_from_or_that_lists_it() {
    let server = Server::start_with(|config| config.allowed_origins = vec![LISTED.to_owned()]).await;
    let own = [format!("http://{}", server.address), format!("https://{}", server.address)];
    for path in ["/api/openapi.json", "/healthz"] {
        for origin in own.iter().map(String::as_str).chain([LISTED, "HTTPS://Chat.Example.org"]) {
            get(&server, path, &[("origin", origin)]).await.expect(200);
        }
        let host = format!("http://{}.evil.example", server.address);
        let other_port = format!("http://{}", server.address.ip());
        for foreign in [
            "https://evil.example",
            "https://chat.example.org.evil.example",
            "http://chat.example.org",
            "https://chat.example.org:8443",
            "null",
            "",
            &host,
            &other_port,
        ] {
            let answer = get(&server, path, &[("origin", foreign)]).await;
            assert_eq!(answer.status, 403, "{foreign}");
            let answer = answer.expect_problem(403, "forbidden");
            assert!(answer.headers.get("access-control-allow-origin").is_none());
        }
    }
    // A handshake, too: it is the way of a page that CORS does not guard.
    let handshake = [
        ("connection", "upgrade"),
        ("upgrade", "websocket"),
        ("sec-websocket-version", "13"),
        ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
        ("origin", "https://evil.example"),
    ];
    get(&server, "/api/ws", &handshake).await.expect_problem(403, "forbidden");
    get(&server, "/api/ws", &[&handshake[..4], &[("origin", LISTED)]].concat()).await.expect(101);
    let login = r#"{"username":"ana","password":"correct horse battery"}"#;
    let headers = [("origin", "https://evil.example"), ("content-type", "application/json")];
    server.call_raw(Method::POST, "/api/users", &headers, login).await.expect_problem(403, "forbidden");
    server.user("ana").await;
}

#[tokio::test]
async fn a_page_of_a_listed_origin_may_read_answers_and_refusals() {
    let server = Server::start_with(|config| config.allowed_origins = vec![LISTED.to_owned()]).await;
    let preflight = [
        ("origin", LISTED),
        ("access-control-request-method", "PATCH"),
        ("access-control-request-headers", "authorization,content-type"),
    ];
    let answer = server.call_raw(Method::OPTIONS, "/api/users/me", &preflight, "").await.expect(204);
    let header = |answer: &Answer, name: &str| answer.headers[name].to_str().unwrap().to_lowercase();
    assert_eq!(header(&answer, "access-control-allow-origin"), LISTED);
    for method in ["get", "post", "put", "patch", "delete"] {
        assert!(header(&answer, "access-control-allow-methods").contains(method));
    }
    for name in ["authorization", "content-type"] {
        assert!(header(&answer, "access-control-allow-headers").contains(name));
    }
    let ana = server.user("ana").await;
    for (token, status) in [(&*ana.token, 200), ("garbage", 401)] {
        let token = format!("Bearer {token}");
        let headers = [("origin", LISTED), ("authorization", token.as_str())];
        let answer = get(&server, "/api/users/me", &headers).await.expect(status);
        assert_eq!(header(&answer, "access-control-allow-origin"), LISTED);
        assert!(header(&answer, "vary").contains("origin"));
        assert!(answer.headers.get("access-control-allow-credentials").is_none());
    }
    let own = format!("http://{}", server.address);
    let answer = get(&server, "/api/openapi.json", &[("origin", &own)]).await.expect(200);
    assert!(answer.headers.get("access-control-allow-origin").is_none());
}

#[tokio::test]
async fn a_page_of_a_listed_origin_may_see_when_to_come_back_and_the_id_of_its_request() {
    let server = Server::start_with(|config| config.allowed_origins = vec![LISTED.to_owned()]).await;
    let answer = get(&server, "/api/users/me", &[("origin", LISTED)]).await.expect(401);
    let exposed = answer.headers["access-control-expose-headers"].to_str().unwrap().to_lowercase();
    assert!(exposed.contains("retry-after") && exposed.contains("x-request-id"), "{exposed}");
}

#[tokio::test]
async fn every_answer_has_an_id_which_is_the_clients_if_he_gives_one() {
    let server = Server::start().await;
    let id = |answer: &Answer| answer.headers["x-request-id"].to_str().unwrap().to_owned();
    let mut seen = Vec::new();
    for path in ["/healthz", "/api/users/me", "/api/nothing", "/api/ws", "/api/openapi.json"] {
        let own = id(&get(&server, path, &[]).await);
        assert!(!own.is_empty() && !seen.contains(&own));
        seen.push(own);
        let given = get(&server, path, &[("x-request-id", "trace-1.a_B")]).await;
        assert_eq!(id(&given), "trace-1.a_B");
    }
    for garbage in ["", "two words", "<script>", &"x".repeat(65)] {
        assert_ne!(id(&get(&server, "/healthz", &[("x-request-id", garbage)]).await), garbage);
    }
    let foreign = get(&server, "/healthz", &[("origin", "https://evil.example")]).await.expect(403);
    assert!(!id(&foreign).is_empty());
}

#[tokio::test]
async fn many_fields_in_the_head_or_a_huge_one_are_refused_and_the_node_goes_on() {
    let server = Server::start().await;
    let huge = "x".repeat(200_000);
    let answer = get(&server, "/healthz", &[("x-huge", &huge)]).await;
    assert_eq!(answer.status, 431);
    let many: Vec<(&str, &str)> = (0..200).map(|_| ("x-many", "1")).collect();
    assert_eq!(get(&server, "/healthz", &many).await.status, 431);
    assert_eq!(get(&server, "/healthz", &[]).await.body, Value::Null);
    assert_eq!(json!(get(&server, "/healthz", &[]).await.text), "ok\n");
}
