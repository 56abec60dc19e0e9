//! Each server comes up, is paused, killed and comes again, and is gone in the end.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use tertulia_services::{Fault, Kind, Proxy, Server};

/// Whether Redis answers.
fn ping(address: SocketAddr) -> std::io::Result<bool> {
    let mut socket = TcpStream::connect(address)?;
    socket.set_read_timeout(Some(Duration::from_millis(300)))?;
    socket.write_all(b"PING\r\n")?;
    let mut answer = [0; 7];
    socket.read_exact(&mut answer)?;
    Ok(&answer == b"+PONG\r\n")
}

fn comes_and_goes(kind: Kind) {
    let mut server = Server::temporary(kind).unwrap();
    let (address, url) = (server.address(), server.url());
    server.kill().unwrap();
    assert!(TcpStream::connect(address).is_err());
    server.restart().unwrap();
    TcpStream::connect(address).unwrap();
    server.restart().unwrap();
    TcpStream::connect(address).unwrap();
    assert_eq!((server.address(), server.url()), (address, url));
    drop(server);
    assert!(TcpStream::connect(address).is_err());
}

#[test]
fn postgres_comes_and_goes() {
    comes_and_goes(Kind::Postgres);
}

#[test]
fn redis_comes_and_goes() {
    comes_and_goes(Kind::Redis);
}

#[test]
fn kafka_comes_and_goes() {
    comes_and_goes(Kind::Kafka);
}

#[test]
fn a_paused_server_does_not_answer_until_it_goes_on() {
    let server = Server::temporary(Kind::Redis).unwrap();
    server.pause().unwrap();
    assert!(ping(server.address()).is_err());
    server.resume().unwrap();
    assert!(ping(server.address()).unwrap());
}

#[test]
fn on_the_way_to_a_server_goes_wrong_what_a_test_says() {
    let server = Server::temporary(Kind::Redis).unwrap();
    let proxy = Proxy::to(server.address()).unwrap();
    let mut through = TcpStream::connect(proxy.address()).unwrap();
    through.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let mut answer = [0; 7];
    through.write_all(b"PING\r\n").unwrap();
    through.read_exact(&mut answer).unwrap();

    proxy.set(Fault::AnswersLost);
    through.write_all(b"SET a 1\r\n").unwrap();
    proxy.wait_for_lost();
    proxy.cut();
    assert_eq!(through.read(&mut answer).unwrap_or(0), 0);

    proxy.set(Fault::Refused);
    assert!(!ping(proxy.address()).unwrap_or(false));
    proxy.set(Fault::Stalled);
    assert!(!ping(proxy.address()).unwrap_or(false));
    proxy.set(Fault::None);
    assert!(ping(proxy.address()).unwrap());
}
