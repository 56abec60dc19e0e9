//! The adapter in the suite of its port, on a single server and on a cluster.

use std::sync::Arc;

use super::{Options, RedisLive};
use crate::live::testsuite::LiveUnderTest;
use crate::live::{Ear, Limits, Live};
use crate::redis::Target;
use crate::redis::testing::{Cluster, Server};

fn join(target: Target, limits: Limits) -> (Arc<dyn Live>, Ear) {
    let (live, ear) = RedisLive::start(Options { limits, ..Options::new(target) });
    (Arc::new(live), ear)
}

struct Single(Server);

impl LiveUnderTest for Single {
    async fn open() -> Self {
        Self(Server::start())
    }

    async fn join(&self, limits: Limits) -> (Arc<dyn Live>, Ear) {
        join(self.0.target(), limits)
    }

    async fn cut(&mut self) {
        self.0.kill();
    }

    async fn mend(&mut self) {
        self.0.restart();
    }
}

/// A cluster that nothing happens to.
struct Steady {
    cluster: Arc<Cluster>,
    prefix: String,
}

impl LiveUnderTest for Steady {
    async fn open() -> Self {
        let (cluster, prefix) = Cluster::shared();
        Self { cluster, prefix }
    }

    async fn join(&self, limits: Limits) -> (Arc<dyn Live>, Ear) {
        let target = self.cluster.target();
        let (live, ear) = RedisLive::start(Options { target, prefix: self.prefix.clone(), limits });
        (Arc::new(live), ear)
    }

    async fn cut(&mut self) {
        unreachable!("others use it");
    }

    async fn mend(&mut self) {}
}

struct Clustered(Cluster);

impl LiveUnderTest for Clustered {
    async fn open() -> Self {
        Self(Cluster::start(0))
    }

    async fn join(&self, limits: Limits) -> (Arc<dyn Live>, Ear) {
        join(self.0.target(), limits)
    }

    async fn cut(&mut self) {
        self.0.servers.iter_mut().for_each(Server::kill);
    }

    async fn mend(&mut self) {
        self.0.servers.iter_mut().for_each(Server::restart);
        self.0.wait_until_whole();
    }
}

mod single {
    crate::live_suite!(super::Single);
}

// Apart, so that those which share a cluster run one after the other.
mod clustered {
    crate::live_suite!(hearing: super::Steady);
}

mod clustered_links {
    crate::live_suite!(links: super::Clustered);
}
