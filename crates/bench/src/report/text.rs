//! The report for people.

use std::fmt::{self, Display, Formatter};

use indicatif::{BinaryBytes, HumanCount, HumanFloatCount};

use super::{Afterwards, Conditions, Cost, Cpu, IdleFigures, Latency, LoadFigures, MemoryPoint, Report};

impl Display for Report {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.scenario)?;
        for (name, value) in self.arguments.as_object().into_iter().flatten() {
            write!(f, ", {name} {value}")?;
        }
        writeln!(f)?;
        write!(f, "{}", self.conditions)?;
        let set_up = &self.set_up;
        writeln!(
            f,
            "  set-up         {} users registered, {} conversations made, {:.1} s; {:.0} s of warm-up",
            HumanCount(set_up.users_registered as u64),
            HumanCount(set_up.conversations_made as u64),
            set_up.seconds,
            self.warm_up_seconds
        )?;
        if let Some(idle) = &self.findings.idle {
            write!(f, "{idle}")?;
        }
        for point in &self.findings.memory {
            writeln!(f, "{point}")?;
        }
        if let Some(load) = &self.findings.load {
            write!(f, "{load}")?;
        }
        if let Some(storm) = &self.findings.storm {
            write!(f, "{storm}")?;
        }
        if let Some(history) = &self.findings.history {
            write!(f, "{history}")?;
        }
        if let Some(catchup) = &self.findings.catchup {
            write!(f, "{catchup}")?;
        }
        if let Some(typing) = &self.findings.typing {
            write!(f, "{typing}")?;
        }
        if let Some(abuse) = &self.findings.abuse {
            write!(f, "{abuse}")?;
        }
        for note in &self.findings.notes {
            writeln!(f, "  note           {note}")?;
        }
        for problem in &self.findings.problems {
            writeln!(f, "  problem        {problem}")?;
        }
        let verdict = if self.valid { "valid" } else { "not valid: these figures say nothing" };
        write!(f, "  run            {verdict}")
    }
}

impl Display for Conditions {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let unknown = "unknown";
        writeln!(
            f,
            "  machine        {} × {}, {}, {}; load {} before",
            self.cores,
            self.machine.as_deref().unwrap_or(unknown),
            self.memory_bytes.map_or_else(|| unknown.to_owned(), |bytes| BinaryBytes(bytes).to_string()),
            self.kernel.as_deref().unwrap_or(unknown),
            self.load_before.map_or_else(|| unknown.to_owned(), |load| load.to_string())
        )?;
        writeln!(
            f,
            "  generator      {} {}, commit {}, {} threads",
            self.version,
            self.build,
            self.commit.unwrap_or(unknown),
            self.threads
        )?;
        let server = &self.server;
        write!(f, "  server         {}, {}", server.version.as_deref().unwrap_or(unknown), server.url)?;
        if let Some(command) = &server.command {
            write!(f, ": {command}")?;
        }
        writeln!(f)?;
        if let Some(history) = &self.history {
            writeln!(f, "  history        writes a history, {}: rates are lower", history.display())?;
        }
        Ok(())
    }
}

impl Display for LoadFigures {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let rate = |f: &mut Formatter<'_>, name: &str, per_second: f64, by_second: &[u64]| {
            let (least, most) = (by_second.iter().min(), by_second.iter().max());
            let [least, most] = [least, most].map(|count| HumanCount(count.copied().unwrap_or(0)));
            writeln!(f, "  {name}{}/s, from {least} to {most}", HumanFloatCount(per_second.round()))
        };
        rate(f, "acked          ", self.acked_per_second, &self.acked_by_second)?;
        rate(f, "deliveries     ", self.deliveries_per_second, &self.deliveries_by_second)?;
        for (name, latency) in [
            ("send→ack      ", &self.send_to_ack),
            ("send→receive  ", &self.send_to_receive),
            ("send→last     ", &self.send_to_last),
            ("generator late", &self.generator_late),
        ] {
            if let Some(latency) = latency {
                writeln!(f, "  {name} {latency}")?;
            }
        }
        let own = [("server CPU", &self.server_cpu), ("generator CPU", &self.generator_cpu)];
        let own = own.into_iter().filter_map(|(name, cpu)| Some((name.to_owned(), cpu.as_ref()?)));
        for (name, cpu) in own.chain(self.beside.iter().map(|(name, cpu)| (format!("{name} CPU"), cpu))) {
            writeln!(f, "  {name:14} {cpu}")?;
        }
        if let Some(Afterwards { seconds, cpu_seconds, is_at_rest }) = self.afterwards {
            let end = if is_at_rest { "until it rested" } else { "and did not rest" };
            writeln!(f, "  afterwards     server {cpu_seconds:.2} s of CPU in {seconds:.1} s, {end}")?;
        }
        for Cost { what, count } in &self.costs {
            writeln!(f, "  a message      {:.4} {what}", count / self.acked.max(1) as f64)?;
        }
        Ok(())
    }
}

impl Display for Latency {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Self { p50_micros, p95_micros, p99_micros, max_micros, .. } = *self;
        let [p50, p95, p99, max] =
            [p50_micros, p95_micros, p99_micros, max_micros].map(|micros| micros / 1e3);
        write!(f, "p50 {p50:.2} ms, p95 {p95:.2} ms, p99 {p99:.2} ms, max {max:.2} ms")
    }
}

impl Display for Cpu {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Self { seconds, cores, micros_per_message, micros_per_delivery } = self;
        write!(
            f,
            "{seconds:.2} s, {cores:.2} cores: {micros_per_message:.1} µs a message, {micros_per_delivery:.2} µs a delivery"
        )
    }
}

impl Display for IdleFigures {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let bytes = |bytes: Option<f64>, unit: f64| {
            bytes.map_or_else(|| "unknown".to_owned(), |bytes| format!("{:.2}", bytes / unit))
        };
        writeln!(
            f,
            "  connections    {} of {} users in {:.1} conversations each",
            HumanCount(self.connections as u64),
            HumanCount(self.users as u64),
            self.conversations_per_user
        )?;
        writeln!(
            f,
            "  a connection   {} KiB idle, {} KiB after load; {} MiB are left of all of them",
            bytes(self.bytes_per_connection, 1024.0),
            bytes(self.bytes_per_connection_after_load, 1024.0),
            bytes(self.bytes_left, 1024.0 * 1024.0)
        )
    }
}

impl Display for MemoryPoint {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "  memory         {}: ", self.when)?;
        for (name, memory) in [("server", self.server), (", generator", self.generator)] {
            if let Some(memory) = memory {
                write!(f, "{name} {}", BinaryBytes(memory.pss_bytes))?;
            }
        }
        Ok(())
    }
}
