//! TCP and HTTP/1.1: connections in, requests to the router, nothing unbounded.

use std::collections::HashMap;
use std::convert::Infallible;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Poll;
use std::time::Duration;

use axum::Router;
use axum::extract::Request;
use axum::http::header::CONNECTION;
use axum::http::{HeaderValue, StatusCode};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Handle;
use tokio::sync::{Semaphore, oneshot};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower_service::Service as _;

use super::joining::{self, Turn};
use super::slow::{InTime, Patient};
use crate::answers::Cut;
use crate::app::App;
use crate::limits::Network;
use crate::rest::extract::ClientAddress;

/// How long the head of a request may take, from when the last one was answered.
const HEAD_MAX: Duration = Duration::from_secs(10);
/// The same of a proxy that is trusted. It keeps connections without a call for later ones, mostly for one or two minutes: one
/// that is closed first may be closed under a call.
const HEAD_OF_PROXY_MAX: Duration = Duration::from_secs(180);
/// The most bytes of a request's head.
const HEAD_BYTES_MAX: usize = 32 * 1_024;
/// The most header fields of a request.
const HEADERS_MAX: usize = 64;
/// The most TCP connections that are HTTP at one time; sockets that were upgraded do not count.
const HTTP_CONNECTIONS_MAX: usize = 8_192;
/// How many of them are of one address at most, if it is no proxy that is trusted.
pub(crate) const OF_ONE_ADDRESS_MAX: usize = 512;
/// How long the first request of a connection may take that was there before the node drained.
const LATE_MAX: Duration = Duration::from_secs(1);
/// How long to wait after `accept` failed, for instance because no file descriptor is left.
const ACCEPT_RETRY: Duration = Duration::from_millis(100);

/// Accepts until the node drains, on a thread of its own; what is accepted is served by the runtime that calls this.
///
/// The kernel keeps 4,096 connections that wait to be accepted, and drops the SYNs of more: their clients come back a
/// second later. When thousands are cut at once, the runtime's threads are busy with their farewells at that moment.
///
/// They also wait here until they have said something and have their [turn](joining::turn): the runtime that serves has them
/// in its queue a few at a time, and those who are here do not wait behind thousands who come.
///
/// The receiver learns when nobody is accepted any more.
///
/// # Errors
/// If no thread can be had.
pub fn listen(app: App, listener: TcpListener, router: Router) -> io::Result<oneshot::Receiver<()>> {
    let serving = Handle::current();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let listener = {
        let _of_its_own = runtime.enter();
        TcpListener::from_std(listener.into_std()?)?
    };
    let (done, ended) = oneshot::channel();
    let thread = std::thread::Builder::new().name("accept".into());
    thread.spawn(move || {
        let waiting = TaskTracker::new();
        runtime.block_on(accept(app, listener, router, &serving, &waiting));
        // Whoever waited for it may have gone.
        let _ = done.send(());
        waiting.close();
        runtime.block_on(waiting.wait());
    })?;
    Ok(ended)
}

async fn accept(app: App, listener: TcpListener, router: Router, serving: &Handle, waiting: &TaskTracker) {
    let places = Arc::new(Semaphore::new(HTTP_CONNECTIONS_MAX));
    let addresses = Addresses::default();
    loop {
        let place = tokio::select! {
            biased;
            place = Arc::clone(&places).acquire_owned() => place,
            () = app.draining.cancelled() => return,
        };
        // The semaphore is never closed.
        let Ok(place) = place else { return };
        let accepted = tokio::select! {
            // Whoever has come is served: with the listener those would be lost who wait to be accepted.
            biased;
            accepted = listener.accept() => accepted,
            () = app.draining.cancelled() => return,
        };
        match accepted {
            Ok((stream, peer)) => {
                let is_proxy = is_trusted(peer.ip(), &app.config.trusted_proxies);
                let head_max = if is_proxy { HEAD_OF_PROXY_MAX } else { HEAD_MAX };
                let is_counted = app.config.limits.is_some() && !is_proxy;
                let of_address = if is_counted { addresses.enter(peer.ip().into()) } else { Ok(None) };
                let Ok(of_address) = of_address else {
                    app.metrics.http_connection_refused();
                    tracing::debug!(%peer, "a connection was closed: its address has too many");
                    continue;
                };
                let (tasks, http) = (app.tasks.clone(), app.http.clone());
                let (app, router, serving) = (app.clone(), router.clone(), serving.clone());
                // A node that drains waits for him, too.
                waiting.spawn(http.clone().track_future(tasks.clone().track_future(async move {
                    let Some((stream, turn)) = come(&app, stream, head_max).await else { return };
                    let served = async move {
                        serve(app, stream, turn, (peer, head_max), router).await;
                        drop((place, of_address));
                    };
                    tasks.spawn_on(http.track_future(served), &serving);
                })));
            }
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(ACCEPT_RETRY).await;
            }
        }
    }
}

/// How many connections each address has that are HTTP.
#[derive(Default)]
struct Addresses(Arc<Mutex<HashMap<Network, usize>>>);

/// An address has as many as it may.
struct TooMany;

impl Addresses {
    /// One more of an address, until what is returned is dropped.
    fn enter(&self, address: Network) -> Result<Option<OfAddress>, TooMany> {
        let mut known = lock(&self.0);
        let count = known.entry(address).or_default();
        if *count >= OF_ONE_ADDRESS_MAX {
            return Err(TooMany);
        }
        *count += 1;
        Ok(Some(OfAddress { addresses: Arc::clone(&self.0), address }))
    }
}

/// A connection of an address.
struct OfAddress {
    addresses: Arc<Mutex<HashMap<Network, usize>>>,
    address: Network,
}

impl Drop for OfAddress {
    fn drop(&mut self) {
        let mut known = lock(&self.addresses);
        if let Some(count) = known.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                known.remove(&self.address);
            }
        }
    }
}

/// Nothing under this lock leaves it half done.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Waits until a client has said something, and for his turn. `None` if he says nothing.
async fn come(app: &App, stream: TcpStream, head_max: Duration) -> Option<(std::net::TcpStream, Turn)> {
    let late = async {
        app.draining.cancelled().await;
        tokio::time::sleep(LATE_MAX).await;
    };
    // A turn is for the reading, not for the waiting.
    tokio::select! {
        readable = tokio::time::timeout(head_max, stream.readable()) => if !matches!(readable, Ok(Ok(()))) {
            tracing::debug!("a connection said nothing");
            return None;
        },
        () = late => return None,
    }
    let turn = joining::turn(app).await;
    // It is registered with this thread; the runtime that serves it registers it anew.
    stream.into_std().ok().map(|stream| (stream, turn))
}

async fn serve(
    app: App,
    stream: std::net::TcpStream,
    turn: Turn,
    (peer, head_max): (SocketAddr, Duration),
    router: Router,
) {
    // A message is a small write that somebody waits for.
    let stream = match stream.set_nodelay(true).and_then(|()| TcpStream::from_std(stream)) {
        Ok(stream) => stream,
        Err(error) => {
            tracing::debug!(%error, "a connection was over before it began");
            return;
        }
    };
    let trusted = app.config.trusted_proxies.clone();
    let (leaving, body_max) = (app.leaving.clone(), app.config.body);
    let cut = CancellationToken::new();
    let gives_way = cut.clone();
    let service = hyper::service::service_fn(move |mut request: Request<Incoming>| {
        let address = client_address(&request, peer.ip(), &trusted);
        request.extensions_mut().insert(ClientAddress(address));
        request.extensions_mut().insert(Cut(cut.clone()));
        let (mut router, leaving) = (router.clone(), leaving.clone());
        async move {
            let mut response = router.call(request.map(|body| InTime::body(body, body_max))).await?;
            if leaving.is_cancelled() && response.status() != StatusCode::SWITCHING_PROTOCOLS {
                // The client asks no more on this connection: it would be closed under his next request.
                response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
            }
            Ok::<_, Infallible>(response)
        }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(head_max)
        .max_buf_size(HEAD_BYTES_MAX)
        .max_headers(HEADERS_MAX)
        .serve_connection(TokioIo::new(Patient::new(stream, app.config.unread)), service)
        .with_upgrades();
    let mut connection = std::pin::pin!(connection);
    let first = futures_util::poll!(connection.as_mut());
    drop(turn);
    let result = match first {
        Poll::Ready(result) => result,
        Poll::Pending => tokio::select! {
            result = connection.as_mut() => result,
            () = gives_way.cancelled() => {
                tracing::debug!("an HTTP connection was cut: its client held the most of what waited to be read");
                return;
            }
            () = app.draining.cancelled() => {
                connection.as_mut().graceful_shutdown();
                tokio::select! {
                    result = connection => result,
                    () = gives_way.cancelled() => return,
                    () = app.over.cancelled() => return,
                }
            }
        },
    };
    if let Err(error) = result {
        tracing::debug!(%error, "an HTTP connection ended badly");
    }
}

/// The client's address: the peer's, or, behind proxies that are trusted, the last one in `X-Forwarded-For` that
/// is none of them. Always in its plain form: a listener on `[::]` sees IPv4 as `::ffff:…`.
fn client_address<B>(request: &Request<B>, peer: IpAddr, trusted: &[IpAddr]) -> IpAddr {
    let peer = peer.to_canonical();
    if !is_trusted(peer, trusted) {
        return peer;
    }
    let lines = request.headers().get_all("x-forwarded-for").iter().filter_map(|value| value.to_str().ok());
    let hops: Vec<&str> = lines.flat_map(|line| line.split(',')).map(str::trim).collect();
    let mut hops = hops.iter().rev().map_while(|hop| Some(hop.parse::<IpAddr>().ok()?.to_canonical()));
    hops.find(|hop| !is_trusted(*hop, trusted)).unwrap_or(peer)
}

/// Whether this is a proxy that is trusted, in whichever form an address of IPv4 comes.
fn is_trusted(address: IpAddr, trusted: &[IpAddr]) -> bool {
    trusted.iter().any(|proxy| proxy.to_canonical() == address.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(peer: &str, forwarded: Option<&str>, expected: &str) {
        let trusted = ["10.0.0.1", "10.0.0.2", "::ffff:10.0.0.3"].map(|address| address.parse().unwrap());
        let mut request = Request::builder();
        if let Some(forwarded) = forwarded {
            request = request.header("x-forwarded-for", forwarded);
        }
        let address = client_address(&request.body(()).unwrap(), peer.parse().unwrap(), &trusted);
        assert_eq!(address, expected.parse::<IpAddr>().unwrap());
    }

    #[test]
    fn only_a_trusted_proxy_says_where_a_client_is() {
        check("1.2.3.4", Some("9.9.9.9"), "1.2.3.4");
        check("10.0.0.1", None, "10.0.0.1");
        check("10.0.0.1", Some("9.9.9.9"), "9.9.9.9");
        check("10.0.0.1", Some("6.6.6.6, 9.9.9.9, 10.0.0.2"), "9.9.9.9");
        check("10.0.0.1", Some("9.9.9.9, nonsense"), "10.0.0.1");
        // As a listener on [::] sees IPv4.
        check("::ffff:10.0.0.1", Some("::ffff:9.9.9.9, ::ffff:10.0.0.2, 10.0.0.3"), "9.9.9.9");
        check("::ffff:1.2.3.4", Some("9.9.9.9"), "1.2.3.4");
    }

    /// As for the address that it tells, so for how many connections it may have.
    #[test]
    fn a_trusted_proxy_is_known_in_whichever_form_its_address_comes() {
        let trusted = ["10.0.0.1", "::ffff:10.0.0.2"].map(|address| address.parse().unwrap());
        let is_known = |address: &str| is_trusted(address.parse().unwrap(), &trusted);
        assert!(["10.0.0.1", "::ffff:10.0.0.1", "10.0.0.2", "::ffff:10.0.0.2"].into_iter().all(is_known));
        assert!(!is_known("10.0.0.3") && !is_known("::ffff:10.0.0.3"));
    }
}
