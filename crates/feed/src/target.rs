//! Where a Kafka is, and what of it is ours: `kafka://HOST:PORT[,HOST:PORT…][?topic=NAME&partitions=NUMBER]`.

use std::str::FromStr;

/// The topic, if nothing else is said.
pub const TOPIC: &str = "tertulia";
/// How many partitions a topic gets that is made: the most nodes that can share the work.
pub const PARTITIONS: u16 = 12;
/// A Kafka of one machine bears some thousands in all.
const PARTITIONS_MAX: u16 = 1_000;
/// As Kafka has it.
const TOPIC_CHARS_MAX: usize = 249;

/// Where a Kafka is, and what of it is ours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KafkaTarget {
    /// Brokers that are asked for all others: `HOST:PORT`, one or more.
    pub brokers: Vec<String>,
    /// The topic.
    pub topic: String,
    /// How many partitions it gets if it is not there.
    pub partitions: u16,
}

/// This is no address of a Kafka.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a feed is kafka://HOST:PORT[,HOST:PORT][?topic=NAME&partitions=NUMBER]: {0}")]
pub struct InvalidTarget(&'static str);

impl FromStr for KafkaTarget {
    type Err = InvalidTarget;

    fn from_str(url: &str) -> Result<Self, InvalidTarget> {
        let rest = url.strip_prefix("kafka://").ok_or(InvalidTarget("it begins with kafka://"))?;
        let (brokers, query) = rest.split_once('?').unwrap_or((rest, ""));
        let brokers = brokers.strip_suffix('/').unwrap_or(brokers);
        let brokers: Vec<_> = brokers.split(',').map(broker).collect::<Result<_, _>>()?;
        let mut target = Self { brokers, topic: TOPIC.to_owned(), partitions: PARTITIONS };
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            match pair.split_once('=') {
                Some(("topic", name)) => target.topic = topic(name)?,
                Some(("partitions", number)) => target.partitions = partitions(number)?,
                _ => return Err(InvalidTarget("it takes topic= and partitions=")),
            }
        }
        Ok(target)
    }
}

fn broker(text: &str) -> Result<String, InvalidTarget> {
    let invalid = InvalidTarget("a broker is HOST:PORT, without user and password");
    let (host, port) = text.rsplit_once(':').ok_or_else(|| invalid.clone())?;
    let is_host = !host.is_empty()
        && host.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | '[' | ']' | ':'));
    let is_port =
        port.bytes().all(|byte| byte.is_ascii_digit()) && port.parse::<u16>().is_ok_and(|port| port > 0);
    if is_host && is_port { Ok(text.to_owned()) } else { Err(invalid) }
}

fn topic(name: &str) -> Result<String, InvalidTarget> {
    let is_char = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    let is_name = (1..=TOPIC_CHARS_MAX).contains(&name.len()) && name.chars().all(is_char);
    if is_name && !matches!(name, "." | "..") {
        Ok(name.to_owned())
    } else {
        Err(InvalidTarget("a topic has letters, digits, '.', '_' and '-'"))
    }
}

fn partitions(number: &str) -> Result<u16, InvalidTarget> {
    let number = number.parse().ok().filter(|number| (1..=PARTITIONS_MAX).contains(number));
    number.ok_or(InvalidTarget("partitions are 1 to 1000"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(brokers: &[&str], topic: &str, partitions: u16) -> KafkaTarget {
        let brokers = brokers.iter().map(|&broker| broker.to_owned()).collect();
        KafkaTarget { brokers, topic: topic.to_owned(), partitions }
    }

    #[test]
    fn an_address_names_brokers_and_may_name_the_topic_and_its_partitions() {
        let cases = [
            ("kafka://127.0.0.1:9092", target(&["127.0.0.1:9092"], TOPIC, PARTITIONS)),
            ("kafka://[::1]:9092/", target(&["[::1]:9092"], TOPIC, PARTITIONS)),
            ("kafka://a.b:1,c-d:2?topic=chat.eu", target(&["a.b:1", "c-d:2"], "chat.eu", PARTITIONS)),
            ("kafka://a:1?partitions=3&topic=x", target(&["a:1"], "x", 3)),
        ];
        for (url, expected) in cases {
            assert_eq!(url.parse(), Ok(expected), "{url}");
        }
    }

    #[test]
    fn anything_else_is_refused() {
        for url in [
            "",
            "redis://a:1",
            "kafka://",
            "kafka://a",
            "kafka://a:",
            "kafka://a:+1",
            "kafka://a:0",
            "kafka://a:70000",
            "kafka://u:p@a:1",
            "kafka://a:1,",
            "kafka://a:1?topic=",
            "kafka://a:1?topic=a/b",
            "kafka://a:1?topic=..",
            "kafka://a:1?partitions=0",
            "kafka://a:1?partitions=1001",
            "kafka://a:1?acks=0",
        ] {
            assert!(url.parse::<KafkaTarget>().is_err(), "{url}");
        }
    }
}
