//! How often somebody may do something here: a bucket for each device, user and address.
//!
//! The arithmetic is [`tertulia_domain::limits`]; this keeps the buckets. Times are those of
//! [`Clock::monotonic`](crate::clock::Clock::monotonic).

mod config;
mod keyed;

use std::net::{IpAddr, Ipv6Addr};
use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use tertulia_domain::limits::Quota;
use tertulia_protocol::DeviceId;

use crate::rest::problem::ApiError;

pub use config::{LimitsConfig, Period, Rate};
pub use keyed::{Bucket, Keyed};

/// How many open sockets a device has on this node at most, unless there are no limits. Each connection has limits of its
/// own, and costs memory, and new ones are only limited by their pace.
pub const SOCKETS_PER_DEVICE_MAX: usize = 32;

/// The bucket of one device's sends, as a connection keeps it: checking it takes no lock and no look-up.
pub type DeviceBucket = Bucket;

/// All limits of this process; cheap to clone.
#[derive(Debug, Clone)]
pub struct Limits(Arc<Buckets>);

/// What is limited.
#[derive(Debug)]
pub struct Buckets {
    /// Messages, of a device, on whichever connection and by REST.
    pub sends: Keyed<DeviceId>,
    /// REST calls that only read, of a device.
    pub reads: Keyed<DeviceId>,
    /// REST calls that change something, of a device; its sends have their own limit besides.
    pub writes: Keyed<DeviceId>,
    /// Bytes that a device sends, in frames and bodies; the cost of a check is their number.
    pub bytes: Keyed<DeviceId>,
    /// Bytes of the answers that a device was given: calls that read are refused while it is in debt.
    pub answers: Keyed<DeviceId>,
    /// Logins, of a username (whether or not somebody has it) from an address.
    pub logins_per_user: Keyed<(Box<str>, Network)>,
    /// Logins, of a username from all addresses together: ten times as many. Who guesses from a few addresses cannot lock the
    /// user out everywhere, and who has many does not guess much faster.
    pub logins_per_user_anywhere: Keyed<Box<str>>,
    /// Logins, from an address.
    pub logins_per_address: Keyed<Network>,
    /// Registrations, from an address.
    pub registrations: Keyed<Network>,
    /// New connections, from an address.
    pub connections: Keyed<Network>,
    events: Quota,
}

impl Limits {
    /// Limits as configured.
    pub fn new(config: &LimitsConfig) -> Self {
        Self(Arc::new(Buckets {
            sends: Keyed::new(config.sends.quota()),
            reads: Keyed::new(config.reads.quota()),
            writes: Keyed::new(config.writes.quota()),
            bytes: Keyed::new(config.bytes.quota()),
            answers: Keyed::new(config.answers.quota()),
            logins_per_user: Keyed::new(config.logins_per_user.quota()),
            logins_per_user_anywhere: Keyed::new(config.logins_per_user.tenfold().quota()),
            logins_per_address: Keyed::new(config.logins_per_address.quota()),
            registrations: Keyed::new(config.registrations.quota()),
            connections: Keyed::new(config.connections.quota()),
            events: config.events.quota(),
        }))
    }

    /// Whether a device has paid for what it was given; else it asks for no more.
    ///
    /// # Errors
    /// `rate_limited`, with how long it is in debt.
    pub fn may_read(&self, device: DeviceId, now: Duration) -> Result<(), ApiError> {
        self.answers.check_cost(device, 0, now).map_err(ApiError::rate_limited)
    }

    /// No limits at all, for load tests.
    pub fn off() -> Self {
        Self(Arc::new(Buckets {
            sends: Keyed::new(Quota::UNLIMITED),
            reads: Keyed::new(Quota::UNLIMITED),
            writes: Keyed::new(Quota::UNLIMITED),
            bytes: Keyed::new(Quota::UNLIMITED),
            answers: Keyed::new(Quota::UNLIMITED),
            logins_per_user: Keyed::new(Quota::UNLIMITED),
            logins_per_user_anywhere: Keyed::new(Quota::UNLIMITED),
            logins_per_address: Keyed::new(Quota::UNLIMITED),
            registrations: Keyed::new(Quota::UNLIMITED),
            connections: Keyed::new(Quota::UNLIMITED),
            events: Quota::UNLIMITED,
        }))
    }

    /// A bucket for the events other than sends of one new connection; it goes with the connection.
    pub fn events(&self) -> Bucket {
        Bucket::new(self.0.events)
    }

    /// Forgets every bucket that is as good as new; to be called every minute or so.
    ///
    /// Without it memory stays bounded all the same, only nearer to its bound.
    pub fn sweep(&self, now: Duration) {
        let Buckets {
            sends,
            reads,
            writes,
            bytes,
            answers,
            logins_per_user,
            logins_per_user_anywhere,
            logins_per_address,
            registrations,
            connections,
            events: _,
        } = &*self.0;
        for of_devices in [sends, reads, writes, bytes, answers] {
            of_devices.sweep(now);
        }
        for of_addresses in [logins_per_address, registrations, connections] {
            of_addresses.sweep(now);
        }
        logins_per_user.sweep(now);
        logins_per_user_anywhere.sweep(now);
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self::new(&LimitsConfig::default())
    }
}

impl Deref for Limits {
    type Target = Buckets;

    fn deref(&self) -> &Buckets {
        &self.0
    }
}

/// What counts as one address: an IPv4 address, or the /64 of an IPv6 one, which is what one customer
/// of a provider gets: he could take a new address out of it for every call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Network(IpAddr);

impl From<IpAddr> for Network {
    fn from(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(address) => Self(address.into()),
            IpAddr::V6(address) => Self(Ipv6Addr::from_bits(address.to_bits() & (u128::MAX << 64)).into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn network(address: &str) -> Network {
        address.parse::<IpAddr>().unwrap().into()
    }

    #[test]
    fn an_ipv6_address_counts_by_its_64_bit_prefix() {
        assert_eq!(network("2001:db8:1:2::1"), network("2001:db8:1:2:ffff::9"));
        assert_ne!(network("2001:db8:1:2::1"), network("2001:db8:1:3::1"));
    }

    #[test]
    fn an_ipv4_address_counts_alone_in_both_its_forms() {
        assert_eq!(network("192.0.2.7"), network("::ffff:192.0.2.7"));
        assert_ne!(network("192.0.2.7"), network("192.0.2.8"));
    }

    #[test]
    fn the_defaults_are_those_of_the_contract() {
        let limits = Limits::default();
        let device = DeviceId::from_bytes([1; 16]);
        let taken = (0..1_000).take_while(|_| limits.sends.check(device, Duration::ZERO).is_ok()).count();
        assert_eq!(taken, 60);
        let wait = limits.sends.check(device, Duration::ZERO).unwrap_err();
        assert_eq!(wait, Duration::from_millis(50));
        let from: IpAddr = [192, 0, 2, 1].into();
        let count = |keyed: &Keyed<Network>| {
            (0..1_000).take_while(|_| keyed.check(from, Duration::ZERO).is_ok()).count()
        };
        assert_eq!(count(&limits.logins_per_address), 60);
        assert_eq!(count(&limits.registrations), 20);
        assert_eq!(count(&limits.connections), 60);
        let logins = || limits.logins_per_user.check((Box::from("ana"), Network::from(from)), Duration::ZERO);
        assert_eq!((0..1_000).take_while(|_| logins().is_ok()).count(), 10);
        assert_eq!(logins().unwrap_err(), Duration::from_secs(6));
        let anywhere = || limits.logins_per_user_anywhere.check("ana", Duration::ZERO);
        assert_eq!((0..1_000).take_while(|_| anywhere().is_ok()).count(), 100);
    }

    #[test]
    fn off_means_off() {
        let limits = Limits::off();
        let device = DeviceId::from_bytes([1; 16]);
        let (sends, events) = (limits.sends.bucket(device), limits.events());
        for _ in 0..10_000 {
            assert_eq!(sends.check(Duration::ZERO), Ok(()));
            assert_eq!(events.check(Duration::ZERO), Ok(()));
            assert_eq!(limits.bytes.check_cost(device, u32::MAX, Duration::ZERO), Ok(()));
        }
    }
}
