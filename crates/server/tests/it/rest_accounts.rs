//! Users, sessions, profiles and blocks, by REST.

use reqwest::Method;
use serde_json::{Value, json};

use crate::asking::{field, told};
use crate::harness::{Answer, Server, User};

const PASSWORD: &str = "correct horse battery";

async fn register(server: &Server, body: Value) -> Answer {
    server.call(Method::POST, "/api/users", None, Some(body)).await
}

async fn log_in(server: &Server, username: &str, password: &str) -> Answer {
    let body = json!({
        "username": username,
        "password": password,
        "device": { "name": "Ana's phone", "platform": "android" },
    });
    server.call(Method::POST, "/api/sessions", None, Some(body)).await
}

async fn refresh(server: &Server, token: &str) -> Answer {
    server.call(Method::POST, "/api/sessions/refresh", None, Some(json!({ "refreshToken": token }))).await
}

#[tokio::test]
async fn registering_gives_a_user_and_his_first_session() {
    let server = Server::start().await;
    let answer = register(&server, json!({ "username": "Ana.B-1_", "password": PASSWORD })).await.expect(201);
    let user = &answer.body["user"];
    assert_eq!((&user["username"], &user["displayName"]), (&json!("ana.b-1_"), &json!("ana.b-1_")));
    assert_eq!(user["privacy"], json!({ "lastSeen": "everyone", "readReceipts": "everyone" }));
    assert_eq!(answer.headers["cache-control"], "no-store");
    assert!(answer.body["expiresAt"].as_str() > user["createdAt"].as_str());

    let ana = User::of(&answer);
    let me = ana.get(&server, "/api/users/me").await.expect(200);
    assert_eq!(me.body, json!({ "user": user }));
    let sessions = ana.get(&server, "/api/sessions").await.expect(200);
    assert_eq!(field(&sessions.body["items"], "deviceId"), [json!(ana.device)]);
}

#[tokio::test]
async fn a_username_is_taken_in_any_case() {
    let server = Server::start().await;
    let both = futures_util::future::join_all(
        ["ana", "ANA", "aNa"]
            .map(|name| register(&server, json!({ "username": name, "password": PASSWORD }))),
    )
    .await;
    assert_eq!(both.iter().filter(|answer| answer.status == 201).count(), 1);
    for answer in both.into_iter().filter(|answer| answer.status != 201) {
        answer.expect_problem(409, "conflict");
    }
    log_in(&server, "AnA", PASSWORD).await.expect(201);
}

#[tokio::test]
async fn what_breaks_a_rule_of_accounts_is_invalid_and_what_just_keeps_it_is_not() {
    let server = Server::start().await;
    let long = |characters: usize| "ñ".repeat(characters);
    for (username, password, name) in [
        ("ab", PASSWORD, "Ana".to_owned()),
        (&"x".repeat(33), PASSWORD, "Ana".to_owned()),
        ("with space", PASSWORD, "Ana".to_owned()),
        ("ümlaut", PASSWORD, "Ana".to_owned()),
        ("ana", "1234567", "Ana".to_owned()),
        ("ana", &long(257), "Ana".to_owned()),
        ("ana", PASSWORD, String::new()),
        ("ana", PASSWORD, "  ".to_owned()),
        ("ana", PASSWORD, long(65)),
    ] {
        let body = json!({ "username": username, "password": password, "displayName": name });
        register(&server, body).await.expect_problem(400, "invalid");
    }
    for (username, password, name) in
        [("abc", "12345678".to_owned(), "安".to_owned()), (&"x".repeat(32), long(256), long(64))]
    {
        let body = json!({ "username": username, "password": password, "displayName": name });
        assert_eq!(register(&server, body).await.expect(201).body["user"]["displayName"], name);
        log_in(&server, username, &password).await.expect(201);
    }
}

#[tokio::test]
async fn a_wrong_password_and_an_unknown_user_get_the_same_answer() {
    let server = Server::start().await;
    server.user("ana").await;
    let wrong = log_in(&server, "ana", "not her password").await.expect_problem(401, "unauthenticated");
    let headers = |answer: &Answer| {
        let mut names: Vec<_> = answer.headers.keys().map(|name| name.to_string()).collect();
        names.sort_unstable();
        names
    };
    for nobody in ["nobody", "no such name at all", ""] {
        let unknown =
            log_in(&server, nobody, "not her password").await.expect_problem(401, "unauthenticated");
        assert_eq!((told(&wrong), headers(&wrong)), (told(&unknown), headers(&unknown)));
    }
}

#[tokio::test]
async fn every_login_is_a_device_and_one_revokes_ones_own() {
    let server = Server::start().await;
    let (ana, bo) = (server.user("ana").await, server.user("bo1").await);
    let answer = log_in(&server, "ana", PASSWORD).await.expect(201);
    let phone = User::of(&answer);
    assert_eq!(phone.id, ana.id);

    let devices = ana.get(&server, "/api/sessions").await.expect(200).body["items"].clone();
    assert_eq!(field(&devices, "deviceId"), [json!(ana.device), json!(phone.device)]);
    assert_eq!(field(&devices, "current"), [json!(true), json!(false)]);
    assert_eq!((&devices[1]["name"], &devices[1]["platform"]), (&json!("Ana's phone"), &json!("android")));

    let device = format!("/api/sessions/{}", phone.device);
    bo.delete(&server, &device).await.expect_problem(404, "not_found");
    ana.delete(&server, "/api/sessions/0198f3a2-7c4e-7b1a-9d3e-5f6a7b8c9d0e")
        .await
        .expect_problem(404, "not_found");
    phone.get(&server, "/api/users/me").await.expect(200);

    ana.delete(&server, &device).await.expect(204);
    phone.get(&server, "/api/users/me").await.expect_problem(401, "unauthenticated");
    refresh(&server, &phone.refresh_token).await.expect_problem(401, "unauthenticated");
    ana.delete(&server, &device).await.expect_problem(404, "not_found");
    let devices = ana.get(&server, "/api/sessions").await.expect(200).body["items"].clone();
    assert_eq!(field(&devices, "deviceId"), [json!(ana.device)]);
}

#[tokio::test]
async fn a_logout_ends_the_device_that_asks_and_no_other() {
    let server = Server::start().await;
    let ana = server.user("ana").await;
    let phone = User::of(&log_in(&server, "ana", PASSWORD).await.expect(201));
    phone.delete(&server, "/api/sessions/current").await.expect(204);
    phone.get(&server, "/api/users/me").await.expect_problem(401, "unauthenticated");
    refresh(&server, &phone.refresh_token).await.expect_problem(401, "unauthenticated");
    ana.get(&server, "/api/users/me").await.expect(200);

    let server = Server::start_on(server.stop().await, |_| {}).await;
    phone.get(&server, "/api/users/me").await.expect_problem(401, "unauthenticated");
    ana.get(&server, "/api/users/me").await.expect(200);
}

#[tokio::test]
async fn refresh_tokens_rotate_and_the_device_stays_the_same() {
    let server = Server::start().await;
    let ana = server.user("ana").await;
    let mut newest = ana.clone();
    for _ in 0..3 {
        let answer = refresh(&server, &newest.refresh_token).await.expect(200);
        assert_eq!(answer.headers["cache-control"], "no-store");
        let next = User::of(&answer);
        assert_eq!((&next.id, &next.device), (&ana.id, &ana.device));
        assert!(next.token != newest.token && next.refresh_token != newest.refresh_token);
        next.get(&server, "/api/users/me").await.expect(200);
        newest = next;
    }
    let server = Server::start_on(server.stop().await, |_| {}).await;
    let next = User::of(&refresh(&server, &newest.refresh_token).await.expect(200));
    next.get(&server, "/api/users/me").await.expect(200);
}

#[tokio::test]
async fn a_refresh_token_that_is_used_again_revokes_its_device() {
    let server = Server::start().await;
    let stolen = server.user("ana").await;
    let phone = User::of(&log_in(&server, "ana", PASSWORD).await.expect(201));
    let newest = User::of(&refresh(&server, &stolen.refresh_token).await.expect(200));
    refresh(&server, &stolen.refresh_token).await.expect_problem(401, "unauthenticated");

    for session in [&stolen, &newest] {
        session.get(&server, "/api/users/me").await.expect_problem(401, "unauthenticated");
        refresh(&server, &session.refresh_token).await.expect_problem(401, "unauthenticated");
    }
    phone.get(&server, "/api/users/me").await.expect(200);
    for garbage in ["", "garbage", &phone.token] {
        refresh(&server, garbage).await.expect_problem(401, "unauthenticated");
    }
}

#[tokio::test]
async fn one_changes_ones_own_profile_and_what_is_absent_stays() {
    let server = Server::start().await;
    let (ana, bo) = (server.user("ana").await, server.user("bo1").await);
    let name = " Aña 👩🏽‍💻 שלום";
    let patch = json!({ "displayName": name, "about": "line\nbreaks", "privacy": { "lastSeen": "nobody" } });
    let answer = ana.change(&server, patch).await;
    assert_eq!(answer.body["user"]["privacy"], json!({ "lastSeen": "nobody", "readReceipts": "everyone" }));
    ana.change(&server, json!({ "privacy": { "readReceipts": "nobody" } })).await;
    let answer = ana.change(&server, json!({ "about": "" })).await;
    let user = &answer.body["user"];
    assert_eq!((&user["displayName"], &user["about"]), (&json!(name), &json!("")));
    assert_eq!(user["privacy"], json!({ "lastSeen": "nobody", "readReceipts": "nobody" }));

    let seen = bo.get(&server, &format!("/api/users/{}", ana.id)).await.expect(200);
    assert_eq!((&seen.body["user"]["displayName"], seen.body["user"].get("privacy")), (&json!(name), None));
    assert!(!seen.text.contains("password"));

    for broken in [
        json!({ "displayName": "" }),
        json!({ "about": "x".repeat(1_025) }),
        json!({ "privacy": { "lastSeen": "friends" } }),
        json!({ "privacy": "nobody" }),
    ] {
        ana.patch(&server, "/api/users/me", broken).await.expect_problem(400, "invalid");
    }
    let me = ana.get(&server, "/api/users/me").await.expect(200);
    assert_eq!(me.body["user"], answer.body["user"]);
}

#[tokio::test]
async fn a_user_who_does_not_exist_is_not_found() {
    let server = Server::start().await;
    let ana = server.user("ana").await;
    for id in ["0198f3a2-7c4e-7b1a-9d3e-5f6a7b8c9d0e", "garbage", "%00", "%ff"] {
        ana.get(&server, &format!("/api/users/{id}")).await.expect_problem(404, "not_found");
        ana.put(&server, &format!("/api/users/{id}/block"), None).await.expect_problem(404, "not_found");
        ana.delete(&server, &format!("/api/users/{id}/block")).await.expect_problem(404, "not_found");
    }
}

#[tokio::test]
async fn users_are_found_by_how_their_names_begin_and_pages_lose_none() {
    let server = Server::start().await;
    let ana = server.user("ana").await;
    for (username, name) in [("sam1", "Zoë"), ("sam2", "Ñandú"), ("SAM3", "Sam"), ("other", "Sammy")] {
        let body = json!({ "username": username, "password": PASSWORD, "displayName": name });
        register(&server, body).await.expect(201);
    }
    let find = async |query: &str| ana.get(&server, &format!("/api/users?{query}")).await;
    let mut found = Vec::new();
    let mut cursor = String::new();
    loop {
        let page = find(&format!("query=sAm&limit=2{cursor}")).await.expect(200).body;
        let names = field(&page["items"], "username");
        assert!(names.len() == 2 || page.get("nextCursor").is_none());
        assert!(page["items"].as_array().unwrap().iter().all(|user| user.get("privacy").is_none()));
        found.extend(names);
        let Some(next) = page["nextCursor"].as_str() else { break };
        cursor = format!("&cursor={next}");
    }
    assert_eq!(found, ["other", "sam1", "sam2", "sam3"]);
    let by_name = find("query=%C3%B1AND").await.expect(200).body;
    assert_eq!(field(&by_name["items"], "username"), ["sam2"]);
    assert_eq!(find("query=nobody").await.expect(200).body["items"], json!([]));
    for broken in
        ["", "query=", "query=%20", "query=sam&limit=0", "query=sam&limit=201", "query=sam&cursor=!!"]
    {
        find(broken).await.expect_problem(400, "invalid");
    }
}

#[tokio::test]
async fn a_block_is_set_and_lifted_however_often_but_never_on_oneself() {
    let server = Server::start().await;
    let (ana, bo) = (server.user("ana").await, server.user("bo1").await);
    for _ in 0..2 {
        ana.block(&server, &bo).await;
    }
    for _ in 0..2 {
        ana.unblock(&server, &bo).await;
    }
    let oneself = format!("/api/users/{}/block", ana.id);
    ana.put(&server, &oneself, None).await.expect_problem(400, "invalid");
}
