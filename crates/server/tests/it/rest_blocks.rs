//! Blocks: what the accounts say and what the direct conversation does are one.

use std::time::Duration;

use futures_util::future::join_all;
use serde_json::json;
use tertulia_protocol::UserId;
use tertulia_store::accounts::{Accounts as _, EmbeddedAccounts, SigningKey};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

use crate::harness::{Server, User};

/// Ana, and others with whom she has a direct conversation each.
async fn ana_and_others(server: &Server) -> (User, Vec<(User, String)>) {
    let ana = server.user("ana").await;
    let mut others = Vec::new();
    for number in 0..16 {
        let other = server.user(&format!("other{number}")).await;
        let convo = ana.direct(server, &other).await;
        others.push((other, convo));
    }
    (ana, others)
}

/// Who is blocked can send nothing, and everybody else can.
async fn check(server: Server, ana: &User, others: &[(User, String)]) {
    let mut refused = Vec::new();
    for (other, convo) in others {
        let answer = other.try_send(&server, convo, json!({ "clientSeq": 1, "body": "hola" })).await;
        refused.push(answer.status == 403);
    }
    let data = server.stop().await;
    let accounts = EmbeddedAccounts::open(data.path(), SigningKey::new([7; 32])).unwrap();
    let id = |user: &User| user.id.parse::<UserId>().unwrap();
    let mut blocked = Vec::new();
    for (other, _) in others {
        blocked.push(accounts.blocks(id(ana), id(other)).await.unwrap());
    }
    accounts.close().await;
    assert_eq!(refused, blocked);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_blocks_and_unblocks_somebody_at_once_has_done_one_of_both() {
    let server = Server::start().await;
    let (ana, others) = ana_and_others(&server).await;
    for (other, _) in &others {
        let path = format!("/api/users/{}/block", other.id);
        let set = async |blocks| match blocks {
            true => ana.put(&server, &path, None).await.expect(204),
            false => ana.delete(&server, &path).await.expect(204),
        };
        join_all((0..8).map(|number| set(number % 2 == 0))).await;
    }
    check(server, &ana, &others).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_hangs_up_while_he_blocks_somebody_has_done_it_wholly_or_not_at_all() {
    let server = Server::start().await;
    let (ana, others) = ana_and_others(&server).await;
    for (number, (other, _)) in (0..).zip(&others) {
        let call = format!(
            "PUT /api/users/{}/block HTTP/1.1\r\nHost: {}\r\nAuthorization: Bearer {}\r\nContent-Length: 0\r\n\r\n",
            other.id, server.address, ana.token
        );
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        stream.write_all(call.as_bytes()).await.unwrap();
        // At another moment each.
        tokio::time::sleep(Duration::from_micros(250 * number)).await;
        drop(stream);
    }
    let server = Server::start_on(server.stop().await, |_| {}).await;
    check(server, &ana, &others).await;
}
