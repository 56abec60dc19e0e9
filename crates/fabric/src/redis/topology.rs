//! Which server has which key: all of them one server, or the slots of a Redis Cluster.

use std::str;

use super::Reply;
use super::target::Address;

/// How many slots a cluster has.
const SLOTS: usize = 16_384;
/// A slot that no server has.
const NOBODY: u16 = u16::MAX;

/// The servers that have keys, and which.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Topology {
    servers: Vec<Address>,
    /// Of a cluster: the server of each slot.
    slots: Option<Vec<u16>>,
}

impl Topology {
    /// One server that has everything.
    pub(crate) fn single(server: Address) -> Self {
        Self { servers: vec![server], slots: None }
    }

    /// What a server of a cluster says of it in answer to `CLUSTER SLOTS`; `None` if that is no such answer.
    ///
    /// `asked` is where it was asked: a server that does not know its own name is called so.
    pub(crate) fn of_cluster(answer: &Reply, asked: &Address) -> Option<Self> {
        let Reply::List(ranges) = answer else { return None };
        let mut topology = Self { servers: Vec::new(), slots: None };
        let mut slots = vec![NOBODY; SLOTS];
        for range in ranges {
            let Reply::List(range) = range else { return None };
            let [Reply::Integer(first), Reply::Integer(last), Reply::List(master), ..] = range.as_slice()
            else {
                return None;
            };
            let server = topology.server(&address(master, asked)?)?;
            let range = usize::try_from(*first).ok()?..=usize::try_from(*last).ok()?;
            slots.get_mut(range)?.fill(server);
        }
        topology.slots = Some(slots);
        Some(topology)
    }

    fn server(&mut self, address: &Address) -> Option<u16> {
        let known = self.servers.iter().position(|server| server == address);
        let at = known.unwrap_or_else(|| {
            self.servers.push(address.clone());
            self.servers.len() - 1
        });
        u16::try_from(at).ok().filter(|at| *at != NOBODY)
    }

    /// The servers that have keys.
    pub(crate) fn servers(&self) -> &[Address] {
        &self.servers
    }

    /// Whether it is a cluster.
    pub(crate) const fn is_cluster(&self) -> bool {
        self.slots.is_some()
    }

    /// Whether each slot has a server.
    pub(crate) fn is_whole(&self) -> bool {
        self.slots.as_ref().is_none_or(|slots| !slots.contains(&NOBODY))
    }

    /// The server that has a key.
    pub(crate) fn server_of(&self, key: &[u8]) -> Option<&Address> {
        self.servers.get(self.place_of(key))
    }

    /// The place of that server in [`servers`](Self::servers); beyond its end if none has the key.
    pub(crate) fn place_of(&self, key: &[u8]) -> usize {
        self.slots.as_ref().map_or(0, |slots| slots[usize::from(slot_of(key))].into())
    }
}

/// An address in an answer: host, port and more.
fn address(master: &[Reply], asked: &Address) -> Option<Address> {
    let [host, Reply::Integer(port), ..] = master else { return None };
    let host = match host {
        Reply::Text(host) => str::from_utf8(host).ok()?,
        Reply::Null => "",
        _ => return None,
    };
    // So Redis writes a name that it should announce and was not told.
    let host = if host.is_empty() || host == "?" { asked.host.clone() } else { host.into() };
    Some(Address { host, port: u16::try_from(*port).ok()? })
}

/// The slot of a key, as Redis Cluster has it: what stands in the first braces counts, if there is something.
pub(crate) fn slot_of(key: &[u8]) -> u16 {
    let counts = key.iter().position(|byte| *byte == b'{').and_then(|open| {
        let inner = &key[open + 1..];
        inner
            .iter()
            .position(|byte| *byte == b'}')
            .filter(|length| *length > 0)
            .map(|length| &inner[..length])
    });
    crc16(counts.unwrap_or(key)) % SLOTS as u16
}

/// CRC-16/XMODEM.
fn crc16(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0, |crc, byte| (crc << 8) ^ CRC[usize::from((crc >> 8) as u8 ^ byte)])
}

const CRC: [u16; 256] = {
    let mut table = [0; 256];
    let mut at = 0;
    while at < 256 {
        let mut crc = (at as u16) << 8;
        let mut bit = 0;
        while bit < 8 {
            crc = if crc & 0x8000 == 0 { crc << 1 } else { (crc << 1) ^ 0x1021 };
            bit += 1;
        }
        table[at] = crc;
        at += 1;
    }
    table
};

/// What a map of a cluster owes: every key has a server of it, or none.
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) fn check(answer: &Reply) {
    let asked = Address { host: "asked".into(), port: 1 };
    if let Some(topology) = Topology::of_cluster(answer, &asked) {
        let has_server = |number: u16| topology.server_of(&number.to_be_bytes()).is_some();
        assert!(!topology.is_whole() || (0..64).all(has_server));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(host: &str, port: u16) -> Address {
        Address { host: host.into(), port }
    }

    fn range(first: i64, last: i64, host: Reply, port: i64) -> Reply {
        let master =
            Reply::List(vec![host, Reply::Integer(port), Reply::Text("id".into()), Reply::List(vec![])]);
        Reply::List(vec![Reply::Integer(first), Reply::Integer(last), master])
    }

    #[test]
    fn keys_have_the_slots_that_redis_gives_them() {
        // From the specification of Redis Cluster, and of a server's CLUSTER KEYSLOT.
        assert_eq!(crc16(b"123456789"), 0x31c3);
        assert_eq!(slot_of(b"foo"), 12_182);
        assert_eq!(slot_of(b"{user1000}.following"), slot_of(b"user1000"));
        assert_eq!(slot_of(b"foo{}{bar}"), crc16(b"foo{}{bar}") % 16_384);
        assert_eq!(slot_of(b"foo{{bar}}zap"), slot_of(b"{bar"));
        assert_eq!(slot_of(b"foo{bar}{zap}"), slot_of(b"bar"));
        assert_eq!(slot_of(b"a}b{c"), crc16(b"a}b{c") % 16_384);
    }

    #[test]
    fn a_single_server_has_everything() {
        let topology = Topology::single(address("a", 1));
        assert_eq!(topology.server_of(b"foo"), Some(&address("a", 1)));
        assert!(topology.is_whole() && !topology.is_cluster());
    }

    #[test]
    fn a_cluster_says_who_has_what() {
        let asked = address("asked", 6379);
        let text = |text: &'static str| Reply::Text(text.into());
        let answer = Reply::List(vec![
            range(0, 5_000, text("a"), 1),
            range(5_001, 12_181, Reply::Null, 2),
            range(12_182, 12_182, text("a"), 1),
        ]);
        let topology = Topology::of_cluster(&answer, &asked).unwrap();
        assert_eq!(topology.servers(), [address("a", 1), address("asked", 2)]);
        assert_eq!(topology.server_of(b"foo"), Some(&address("a", 1)));
        assert_eq!(topology.server_of(b"bar").unwrap().port, 2, "slot 5061");
        let uncovered = (0..200_u8).map(|number| [number]).find(|key| slot_of(key) > 12_182).unwrap();
        assert_eq!(topology.server_of(&uncovered), None);
        assert!(!topology.is_whole());
        check(&answer);
    }

    #[test]
    fn what_is_no_map_of_a_cluster_is_none() {
        let asked = address("asked", 6379);
        let text = |text: &'static str| Reply::Text(text.into());
        for wrong in [
            Reply::Null,
            Reply::Error("ERR This instance has cluster support disabled".into()),
            Reply::List(vec![Reply::Integer(1)]),
            Reply::List(vec![range(0, 16_384, text("a"), 1)]),
            Reply::List(vec![range(-1, 5, text("a"), 1)]),
            Reply::List(vec![range(7, 5, text("a"), 1)]),
            Reply::List(vec![range(0, 5, text("a"), 70_000)]),
            Reply::List(vec![range(0, 5, Reply::Integer(1), 1)]),
        ] {
            assert_eq!(Topology::of_cluster(&wrong, &asked), None, "{wrong:?}");
        }
    }
}
