//! Each call and each refusal, through the router as a client meets it.

use std::net::IpAddr;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::{HeaderMap, Method, Request};
use http_body_util::BodyExt;
use serde_json::{Value, json};
use tower_service::Service;

use super::*;
use crate::accounts::tests::{CHEAP, World};
use crate::rest::problem::{method_not_allowed, not_found};

#[derive(Clone)]
struct Parts {
    accounts: AccountsService,
    limits: Limits,
    clock: Clock,
}

impl FromRef<Parts> for AccountsService {
    fn from_ref(parts: &Parts) -> Self {
        parts.accounts.clone()
    }
}

impl FromRef<Parts> for Limits {
    fn from_ref(parts: &Parts) -> Self {
        parts.limits.clone()
    }
}

impl FromRef<Parts> for Clock {
    fn from_ref(parts: &Parts) -> Self {
        parts.clock.clone()
    }
}

struct Api {
    world: World,
    router: Router,
    from: IpAddr,
}

struct Answer {
    status: u16,
    headers: HeaderMap,
    body: Value,
}

impl Api {
    fn new() -> Self {
        Self::with(Limits::off())
    }

    fn with(limits: Limits) -> Self {
        let world = World::with(limits, CHEAP);
        let parts = Parts {
            accounts: world.accounts.clone(),
            limits: world.limits.clone(),
            clock: world.clock.clone(),
        };
        let router = Router::new()
            .nest("/api", routes::<Parts>())
            .fallback(not_found)
            .method_not_allowed_fallback(method_not_allowed)
            .with_state(parts);
        Self { world, router, from: [192, 0, 2, 1].into() }
    }

    async fn send(&self, request: Request<Body>) -> Answer {
        let mut request = request;
        request.extensions_mut().insert(ClientAddress(self.from));
        let response = self.router.clone().call(request).await.unwrap();
        let (head, body) = response.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        let body = if body.is_empty() { Value::Null } else { serde_json::from_slice(&body).unwrap() };
        Answer { status: head.status.as_u16(), headers: head.headers, body }
    }

    /// A call with a token and a body, where there are any.
    async fn call(&self, method: Method, path: &str, token: Option<&str>, body: Option<Value>) -> Answer {
        let mut request = Request::builder().method(method).uri(format!("/api{path}"));
        if let Some(token) = token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        let body = match body {
            Some(body) => {
                request = request.header("content-type", "application/json");
                Body::from(body.to_string())
            }
            None => Body::empty(),
        };
        self.send(request.body(body).unwrap()).await
    }

    async fn get(&self, path: &str, token: &str) -> Answer {
        self.call(Method::GET, path, Some(token), None).await
    }

    async fn post(&self, path: &str, body: Value) -> Answer {
        self.call(Method::POST, path, None, Some(body)).await
    }

    /// A body as it is, with a content type.
    async fn post_raw(&self, path: &str, content_type: &str, body: impl Into<Bytes>) -> Answer {
        let request = Request::post(format!("/api{path}")).header("content-type", content_type);
        self.send(request.body(Body::from(body.into())).unwrap()).await
    }

    async fn register(&self, username: &str, display_name: &str) -> Value {
        let body = json!({"username": username, "password": "correct horse", "displayName": display_name});
        let answer = self.post("/users", body).await;
        assert_eq!(answer.status, 201, "{}", answer.body);
        answer.body
    }
}

impl Answer {
    /// That it is a problem document like this, and its detail.
    #[track_caller]
    fn problem(&self, status: u16, code: &str) -> &str {
        assert_eq!((self.status, &self.body["code"]), (status, &json!(code)), "{}", self.body);
        assert_eq!(self.body["status"], status);
        assert_eq!(self.headers["content-type"], "application/problem+json");
        assert_eq!(self.headers.contains_key("www-authenticate"), code == "unauthenticated");
        let waits = matches!(code, "rate_limited" | "unavailable");
        assert_eq!(self.headers.contains_key("retry-after"), waits);
        assert_eq!(self.body.get("retryAfterMs").is_some(), waits);
        self.body["detail"].as_str().unwrap()
    }

    #[track_caller]
    fn no_content(&self) {
        assert_eq!((self.status, &self.body), (204, &Value::Null));
    }
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap()
}

fn usernames(answer: &Answer) -> Vec<&str> {
    assert_eq!(answer.status, 200, "{}", answer.body);
    answer.body["items"].as_array().unwrap().iter().map(|user| text(&user["username"])).collect()
}

#[tokio::test]
async fn registering_logging_in_and_refreshing_give_a_session() {
    let api = Api::new();
    let registered = api.register("ana", "Ana").await;
    let credentials = json!({
        "username": "ANA", "password": "correct horse", "device": {"name": "Ana's phone", "platform": "android"},
    });
    let login = api.post("/sessions", credentials).await;
    assert_eq!(login.status, 201);
    let refresh = api.post("/sessions/refresh", json!({"refreshToken": login.body["refreshToken"]})).await;
    assert_eq!(refresh.status, 200);
    for session in [&registered, &login.body, &refresh.body] {
        let fields: Vec<_> = session.as_object().unwrap().keys().map(String::as_str).collect();
        assert_eq!(fields.len(), 5, "{fields:?}");
        assert_eq!(session["user"]["username"], "ana");
        assert_eq!(session["user"]["privacy"], json!({"lastSeen": "everyone", "readReceipts": "everyone"}));
        assert_eq!(session["expiresAt"], "2026-01-01T00:15:00.000Z");
        assert_eq!(api.get("/users/me", text(&session["accessToken"])).await.status, 200);
    }
    assert_eq!(login.body["deviceId"], refresh.body["deviceId"]);
    assert_ne!(login.body["deviceId"], registered["deviceId"]);
    for answer in [&login, &refresh] {
        assert_eq!(answer.headers["cache-control"], "no-store");
    }
}

#[tokio::test]
async fn a_taken_username_is_a_conflict_and_a_bad_one_is_invalid() {
    let api = Api::new();
    api.register("ana", "Ana").await;
    let taken = api.post("/users", json!({"username": "Ana", "password": "correct horse"})).await;
    assert!(taken.problem(409, "conflict").contains("ana"));
    let bad = api.post("/users", json!({"username": "a b", "password": "correct horse"})).await;
    assert!(bad.problem(400, "invalid").contains("username"));
    let short = api.post("/users", json!({"username": "bobo", "password": "short"})).await;
    assert!(short.problem(400, "invalid").contains("password"));
}

#[tokio::test]
async fn a_wrong_password_and_an_unknown_user_get_one_answer() {
    let api = Api::new();
    api.register("ana", "Ana").await;
    let wrong = api.post("/sessions", json!({"username": "ana", "password": "wrong horse"})).await;
    let unknown = api.post("/sessions", json!({"username": "nobody", "password": "wrong horse"})).await;
    wrong.problem(401, "unauthenticated");
    assert_eq!((wrong.status, wrong.body, wrong.headers), (unknown.status, unknown.body, unknown.headers));
}

#[tokio::test]
async fn a_used_refresh_token_logs_its_device_out() {
    let api = Api::new();
    let first = api.register("ana", "Ana").await;
    let refresh = json!({"refreshToken": first["refreshToken"]});
    let second = api.post("/sessions/refresh", refresh.clone()).await.body;
    api.post("/sessions/refresh", refresh).await.problem(401, "unauthenticated");
    for session in [&first, &second] {
        api.get("/users/me", text(&session["accessToken"])).await.problem(401, "unauthenticated");
    }
    let garbage = api.post("/sessions/refresh", json!({"refreshToken": "garbage"})).await;
    garbage.problem(401, "unauthenticated");
}

#[tokio::test]
async fn devices_are_listed_and_revoked() {
    let api = Api::new();
    let first = api.register("ana", "Ana").await;
    api.world.hand.advance(Duration::from_secs(60));
    let login = json!({"username": "ana", "password": "correct horse", "device": {"name": "Phone"}});
    let second = api.post("/sessions", login).await.body;
    let token = text(&first["accessToken"]);
    let devices = api.get("/sessions", token).await;
    assert_eq!(
        devices.body,
        json!({"items": [
            {"deviceId": first["deviceId"], "name": "", "platform": "", "current": true,
             "createdAt": "2026-01-01T00:00:00.000Z", "lastSeenAt": "2026-01-01T00:00:00.000Z"},
            {"deviceId": second["deviceId"], "name": "Phone", "platform": "", "current": false,
             "createdAt": "2026-01-01T00:01:00.000Z", "lastSeenAt": "2026-01-01T00:01:00.000Z"},
        ]})
    );
    let path = format!("/sessions/{}", text(&second["deviceId"]));
    api.call(Method::DELETE, &path, Some(token), None).await.no_content();
    api.get("/users/me", text(&second["accessToken"])).await.problem(401, "unauthenticated");
    api.call(Method::DELETE, &path, Some(token), None).await.problem(404, "not_found");
    api.call(Method::DELETE, "/sessions/garbage", Some(token), None).await.problem(404, "not_found");
    api.call(Method::DELETE, "/sessions/current", Some(token), None).await.no_content();
    api.get("/sessions", token).await.problem(401, "unauthenticated");
}

#[tokio::test]
async fn nobody_revokes_the_device_of_another() {
    let api = Api::new();
    let (ana, bo) = (api.register("ana", "Ana").await, api.register("bobo", "Bo").await);
    let path = format!("/sessions/{}", text(&ana["deviceId"]));
    let refused = api.call(Method::DELETE, &path, Some(text(&bo["accessToken"])), None).await;
    refused.problem(404, "not_found");
    assert_eq!(api.get("/users/me", text(&ana["accessToken"])).await.status, 200);
}

#[tokio::test]
async fn a_profile_is_read_and_changed_and_others_see_no_settings() {
    let api = Api::new();
    let (ana, bo) = (api.register("ana", "Ana").await, api.register("bobo", "Bo").await);
    let token = text(&ana["accessToken"]);
    assert_eq!(api.get("/users/me", token).await.body, json!({"user": ana["user"]}));
    let patch = json!({"about": "hi", "privacy": {"readReceipts": "nobody"}, "unknown": 1});
    let patched = api.call(Method::PATCH, "/users/me", Some(token), Some(patch)).await;
    assert_eq!(patched.status, 200);
    let mut expected = ana["user"].clone();
    expected["about"] = json!("hi");
    expected["privacy"]["readReceipts"] = json!("nobody");
    assert_eq!(patched.body, json!({"user": expected}));
    let path = format!("/users/{}", text(&ana["user"]["id"]));
    assert_eq!(api.get(&path, token).await.body, json!({"user": expected}));
    expected.as_object_mut().unwrap().remove("privacy");
    assert_eq!(api.get(&path, text(&bo["accessToken"])).await.body, json!({"user": expected}));
    let bad = json!({"privacy": {"readReceipts": "friends"}});
    let refused = api.call(Method::PATCH, "/users/me", Some(token), Some(bad)).await;
    assert!(refused.problem(400, "invalid").contains("friends"));
    for id in ["0198f3a2-7c4e-7b1a-9d3e-5f6a7b8c9d0e", "garbage", "%F0%9F"] {
        api.get(&format!("/users/{id}"), token).await.problem(404, "not_found");
    }
}

#[tokio::test]
async fn users_are_searched_in_pages() {
    let api = Api::new();
    let ana = api.register("ana", "Zoë").await;
    api.register("zoltan", "Someone").await;
    api.register("bobo", "ZORA").await;
    let token = text(&ana["accessToken"]);
    assert_eq!(usernames(&api.get("/users?query=zo", token).await), ["ana", "bobo", "zoltan"]);
    assert_eq!(usernames(&api.get("/users?query=ZO%C3%8B", token).await), ["ana"]);
    let first = api.get("/users?query=zo&limit=2", token).await;
    assert_eq!(usernames(&first), ["ana", "bobo"]);
    assert!(first.body["items"][0].get("privacy").is_none());
    let path = format!("/users?query=zo&limit=2&cursor={}", text(&first.body["nextCursor"]));
    let second = api.get(&path, token).await;
    assert_eq!(usernames(&second), ["zoltan"]);
    assert!(second.body.get("nextCursor").is_none());
    for query in [
        "",
        "?query=",
        "?query=%20",
        "?query=zo&limit=0",
        "?query=zo&limit=201",
        "?query=zo&limit=x",
        "?query=zo&cursor=x",
    ] {
        api.get(&format!("/users{query}"), token).await.problem(400, "invalid");
    }
}

#[tokio::test]
async fn every_call_but_three_needs_a_token() {
    let api = Api::new();
    let id = "0198f3a2-7c4e-7b1a-9d3e-5f6a7b8c9d0e";
    for (method, path) in [
        (Method::GET, "/users?query=a".to_owned()),
        (Method::GET, "/users/me".to_owned()),
        (Method::PATCH, "/users/me".to_owned()),
        (Method::GET, format!("/users/{id}")),
        (Method::GET, "/sessions".to_owned()),
        (Method::DELETE, "/sessions/current".to_owned()),
        (Method::DELETE, format!("/sessions/{id}")),
    ] {
        for token in [None, Some(""), Some("garbage")] {
            let refused = api.call(method.clone(), &path, token, None).await;
            refused.problem(401, "unauthenticated");
        }
    }
}

#[tokio::test]
async fn the_scheme_of_a_token_may_have_any_case_and_no_other_scheme_will_do() {
    let api = Api::new();
    let ana = api.register("ana", "Ana").await;
    let token = text(&ana["accessToken"]);
    for (scheme, status) in [("Bearer", 200), ("bearer", 200), ("BEARER", 200), ("Basic", 401), ("", 401)] {
        let request = Request::get("/api/users/me").header("authorization", format!("{scheme} {token}"));
        assert_eq!(api.send(request.body(Body::empty()).unwrap()).await.status, status, "{scheme}");
    }
}

#[tokio::test]
async fn a_bad_body_is_refused_and_told_where() {
    let api = Api::new();
    let json = "application/json";
    let cut = api.post_raw("/sessions", json, r#"{"username": "ana","#).await;
    assert!(cut.problem(400, "invalid").contains("line 1"));
    let absent = api.post_raw("/sessions", json, r#"{"username": "ana"}"#).await;
    assert!(absent.problem(400, "invalid").contains("password"));
    let mistyped = api.post_raw("/sessions", json, r#"{"username": "ana", "password": 5}"#).await;
    assert!(mistyped.problem(400, "invalid").contains("column 33"));
    api.post_raw("/sessions", json, "").await.problem(400, "invalid");
    api.post_raw("/sessions", json, &b"\xff"[..]).await.problem(400, "invalid");
    let form = api.post_raw("/sessions", "text/plain", "{}").await;
    assert!(form.problem(400, "invalid").contains("application/json"));
    let large = format!(r#"{{"username": "{}"}}"#, "x".repeat(BODY_BYTES_MAX));
    api.post_raw("/sessions", json, large).await.problem(413, "too_large");
}

#[tokio::test]
async fn what_is_not_there_and_what_is_not_possible_are_problems_too() {
    let api = Api::new();
    for path in ["/nothing", "/users/me/nothing", "/sessions/current/x"] {
        api.call(Method::GET, path, None, None).await.problem(404, "not_found");
    }
    for (method, path, allowed) in [
        (Method::PUT, "/users", "GET"),
        (Method::DELETE, "/users/me", "PATCH"),
        (Method::GET, "/sessions/refresh", "POST"),
    ] {
        let refused = api.call(method, path, None, None).await;
        refused.problem(405, "invalid");
        assert!(refused.headers["allow"].to_str().unwrap().contains(allowed));
    }
}

#[tokio::test]
async fn limits_answer_with_when_to_come_back() {
    let api = Api::with(Limits::default());
    let ana = api.register("ana", "Ana").await;
    let token = text(&ana["accessToken"]);
    for _ in 0..200 {
        assert_eq!(api.get("/users/me", token).await.status, 200);
    }
    let refused = api.get("/users/me", token).await;
    refused.problem(429, "rate_limited");
    assert_eq!(
        (&refused.headers["retry-after"].to_str().unwrap(), &refused.body["retryAfterMs"]),
        (&"1", &json!(20))
    );
    // Writes have their own.
    let patch = api.call(Method::PATCH, "/users/me", Some(token), Some(json!({}))).await;
    assert_eq!(patch.status, 200);
    api.world.hand.advance(Duration::from_millis(20));
    assert_eq!(api.get("/users/me", token).await.status, 200);

    let wrong = json!({"username": "ana", "password": "wrong horse"});
    for _ in 0..10 {
        api.post("/sessions", wrong.clone()).await.problem(401, "unauthenticated");
    }
    let limited = api.post("/sessions", wrong).await;
    limited.problem(429, "rate_limited");
    assert_eq!(limited.headers["retry-after"], "6");
}

#[tokio::test]
async fn when_the_store_is_closed_it_is_unavailable_and_says_so() {
    let api = Api::new();
    let ana = api.register("ana", "Ana").await;
    api.world.accounts.close().await;
    api.get("/users/me", text(&ana["accessToken"])).await.problem(503, "unavailable");
    let login = json!({"username": "ana", "password": "correct horse"});
    api.post("/sessions", login).await.problem(503, "unavailable");
}
