//! What actors act in: the server's addresses, the users, and where each device is logged in now.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tertulia_client::api::Api;
use tertulia_client::backoff::{Backoff, retry};
use tertulia_client::error::Error as ClientError;
use tertulia_client::server::{InvalidServer, Server};
use tertulia_client::session::Session;
use tertulia_history::Recorder;
use tertulia_history::event::{Before, Device};
use tertulia_protocol::entry::ConversationType;
use tertulia_protocol::rest::{self, DeviceInfo, NewConversation, Register};
use tertulia_protocol::{ConvoId, DeviceId, UserId};
use tokio::sync::watch;

use crate::board::Board;
use crate::cast::{Cast, DevicePlan, Driver};
use crate::cutter::Cutter;
use crate::error::Error;
use crate::harm::ALONE;

/// The waits of calls that are made until they succeed.
pub(crate) const PATIENT: Backoff = Backoff { base: Duration::from_millis(100), cap: Duration::from_secs(2) };

/// Everybody's password: nobody attacks here.
const PASSWORD: &str = "torture and nothing else";

/// Somebody.
#[derive(Debug)]
pub(crate) struct Person {
    pub(crate) username: String,
    pub(crate) id: UserId,
}

/// A device's present login.
#[derive(Debug)]
pub(crate) struct Login {
    pub(crate) device_id: DeviceId,
    pub(crate) session: Session,
    /// Somebody has begun to revoke it; whether he succeeds is not known yet.
    pub(crate) revoking: AtomicBool,
    /// It was revoked: the call was answered.
    pub(crate) revoked: watch::Sender<bool>,
}

impl Login {
    pub(crate) fn is_revoking(&self) -> bool {
        self.revoking.load(Ordering::SeqCst)
    }
}

/// How a server is reached.
#[derive(Debug, Clone)]
pub(crate) struct Route {
    pub(crate) server: Server,
    pub(crate) socket: String,
}

impl Route {
    pub(crate) fn new(address: SocketAddr) -> Result<Self, InvalidServer> {
        Self::to_both(address, address)
    }

    /// Calls go to one address, the socket to another.
    pub(crate) fn to_both(calls: SocketAddr, socket: SocketAddr) -> Result<Self, InvalidServer> {
        Ok(Self { server: Server::new(&format!("http://{calls}"))?, socket: format!("ws://{socket}/api/ws") })
    }
}

/// How a device reaches the nodes.
#[derive(Debug)]
pub(crate) struct Way {
    pub(crate) route: Route,
    /// What stands before the nodes for this device alone.
    pub(crate) front: Arc<Cutter>,
}

/// How everybody reaches whom he uses.
#[derive(Debug)]
pub(crate) enum Routes {
    /// One server.
    Alone { direct: Route, by_cutter: Option<Route> },
    /// By the numbers of devices, and for whoever is none.
    Nodes { ways: Vec<Way>, set_up: Route, _front: Arc<Cutter> },
}

impl Routes {
    fn to_set_up(&self) -> Route {
        match self {
            Self::Alone { direct, .. } => direct.clone(),
            Self::Nodes { set_up, .. } => set_up.clone(),
        }
    }
}

/// Shared by all actors.
#[derive(Debug)]
pub(crate) struct World {
    pub(crate) seed: u64,
    pub(crate) board: Arc<Board>,
    pub(crate) recorder: Recorder,
    routes: Routes,
    pub(crate) people: Vec<Person>,
    pub(crate) devices: Vec<DevicePlan>,
    /// Who stays in each conversation, so that somebody can read all of it in the end.
    pub(crate) keepers: HashMap<ConvoId, UserId>,
    /// The group of those who speak at the nodes.
    pub(crate) of_speakers: Option<ConvoId>,
    /// Who is there only to vanish.
    pub(crate) ghost: Option<usize>,
    /// By the numbers of devices.
    logins: Vec<Mutex<Option<Arc<Login>>>>,
}

impl World {
    /// Registers everybody and starts all conversations, at a server to which nothing is done yet.
    pub(crate) async fn set_up(
        seed: u64,
        cast: Cast,
        board: Arc<Board>,
        recorder: Recorder,
        routes: Routes,
    ) -> Result<Self, Error> {
        let direct = routes.to_set_up();
        let mut people = Vec::new();
        let mut apis = Vec::new();
        for number in 0..cast.users {
            let new = Register {
                username: format!("t{seed:x}.{number}").chars().take(32).collect(),
                password: PASSWORD.into(),
                display_name: None,
                device: Some(device("set-up")),
            };
            let tokens = direct.server.register(&new).await?;
            people.push(Person { username: new.username, id: tokens.user.id });
            apis.push(Api::new(Session::new(direct.server.clone(), tokens, None)));
        }
        let mut keepers = HashMap::new();
        let mut of_speakers = None;
        for (number, plan) in cast.convos.iter().enumerate() {
            let kind = if plan.group.is_some() { ConversationType::Group } else { ConversationType::Direct };
            let (Some(creator), others) = (plan.members.first(), plan.members.iter().skip(1)) else {
                continue;
            };
            let new = NewConversation {
                kind,
                members: others.filter_map(|user| people.get(*user)).map(|person| person.id).collect(),
                title: plan.group.map(|_| format!("group {number}")),
                history: plan.group,
            };
            if let Some(api) = apis.get(*creator) {
                let convo = api.create_conversation(&new).await?;
                if cast.of_speakers == Some(number) {
                    of_speakers = Some(convo.id);
                }
                keepers.extend(people.get(*creator).map(|person| (convo.id, person.id)));
                recorder.record(Before { convo: convo.id, seq: convo.last_seq });
            }
        }
        let logins = cast.devices.iter().map(|_| Mutex::default()).collect();
        Ok(Self {
            seed,
            board,
            recorder,
            routes,
            people,
            devices: cast.devices,
            keepers,
            of_speakers,
            ghost: cast.ghost,
            logins,
        })
    }

    /// How this device reaches the server.
    pub(crate) fn route(&self, device: usize) -> &Route {
        match &self.routes {
            Routes::Alone { direct, by_cutter } => {
                let cut = self.devices.get(device).is_some_and(|plan| plan.by_cutter);
                by_cutter.as_ref().filter(|_| cut).unwrap_or(direct)
            }
            Routes::Nodes { ways, set_up, .. } => ways.get(device).map_or(set_up, |way| &way.route),
        }
    }

    /// Whether there are several servers.
    pub(crate) fn has_nodes(&self) -> bool {
        matches!(self.routes, Routes::Nodes { .. })
    }

    /// To which server its newest socket has gone.
    pub(crate) fn socket_at(&self, device: usize) -> usize {
        match &self.routes {
            Routes::Alone { .. } => ALONE,
            Routes::Nodes { ways, .. } => ways.get(device).map_or(ALONE, |way| way.front.socket_at()),
        }
    }

    /// Logs a device in, as a new one; tried until it succeeds.
    pub(crate) async fn log_in(&self, device_number: usize) -> Result<Arc<Login>, ClientError> {
        let server = &self.route(device_number).server;
        let user = self.devices.get(device_number).map_or(0, |plan| plan.user);
        let username = self.people.get(user).map(|person| person.username.clone()).unwrap_or_default();
        let waited = |error: &ClientError, _| {
            if error.code() == Some(tertulia_protocol::Code::Unavailable) {
                self.board.count("logins told to wait");
            }
        };
        let tokens = retry(PATIENT, waited, || server.login(&username, PASSWORD, device("torture"))).await?;
        self.recorder.record(Device { device: tokens.device_id, user: tokens.user.id });
        let login = Arc::new(Login {
            device_id: tokens.device_id,
            session: Session::new(server.clone(), tokens, None),
            revoking: AtomicBool::new(false),
            revoked: watch::Sender::new(false),
        });
        if let Some(place) = self.logins.get(device_number) {
            *place.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(&login));
        }
        Ok(login)
    }

    /// How many users there are who are neither speakers nor ghosts; they are the first.
    pub(crate) fn crowd(&self) -> usize {
        let in_crowd = |plan: &&DevicePlan| !matches!(plan.driver, Driver::Speaker { .. });
        self.devices.iter().filter(in_crowd).map(|plan| plan.user + 1).max().unwrap_or(0)
    }

    /// Logs a user in once more, on a device that is none of the crowd's.
    pub(crate) async fn log_in_to_watch(&self, user: usize) -> Result<rest::Session, ClientError> {
        let username = self.people.get(user).map_or("", |person| &person.username);
        self.routes.to_set_up().server.login(username, PASSWORD, device("watcher")).await
    }

    /// Whether any device of a user is known to have a connection.
    pub(crate) fn is_connected(&self, user: usize) -> bool {
        let mut devices = self.devices.iter().enumerate();
        devices.any(|(number, plan)| plan.user == user && self.board.is_connected(number))
    }

    /// The present login of a device.
    pub(crate) fn login(&self, device_number: usize) -> Option<Arc<Login>> {
        self.logins.get(device_number)?.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

fn device(name: &str) -> DeviceInfo {
    DeviceInfo { name: name.into(), platform: "torture".into() }
}
