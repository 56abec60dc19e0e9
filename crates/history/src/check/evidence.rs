//! Reads the lines again that are evidence, and cuts them to what matters.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead as _, BufReader};

use super::Error;
use super::rules::Proof;
use super::source::{At, Source};

/// A line is shown up to here; a page of history is longer.
const SHOWN_MAX: usize = 360;

/// The texts of these lines. Reads each file once, up to the last line that is wanted of it.
pub(super) fn texts(
    source: &Source,
    wanted: impl Iterator<Item = At>,
) -> Result<BTreeMap<At, String>, Error> {
    let mut texts: BTreeMap<At, String> = wanted.map(|at| (at, String::new())).collect();
    let mut lines = None;
    for (at, text) in &mut texts {
        if lines.as_ref().is_none_or(|(file, _, _)| *file != at.file()) {
            let path = &source.files[at.file()];
            let opened = File::open(path).map_err(|cause| Error::Io { path: path.clone(), cause })?;
            lines = Some((at.file(), 0, BufReader::new(opened)));
        }
        if let Some((file, number, reader)) = &mut lines {
            while *number < at.line() {
                text.clear();
                let read = reader.read_line(text);
                read.map_err(|cause| Error::Io { path: source.files[*file].clone(), cause })?;
                *number += 1;
            }
            text.truncate(text.trim_end().len());
        }
    }
    Ok(texts)
}

/// Cuts a line to what is around the entry that matters.
pub(super) fn abridge(text: &str, proof: Proof) -> String {
    if text.len() <= SHOWN_MAX {
        return text.to_owned();
    }
    let focus = proof.seq.and_then(|seq| {
        let key = format!("{{\"seq\":{seq},");
        text.find(&key)
    });
    let cut = |from: usize, to: usize| {
        let from = (from..=text.len()).find(|at| text.is_char_boundary(*at)).unwrap_or(text.len());
        let to =
            (from..=to.clamp(from, text.len())).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(from);
        &text[from..to]
    };
    match focus {
        Some(focus) if focus > SHOWN_MAX / 2 => {
            format!("{} … {} …", cut(0, SHOWN_MAX / 4), cut(focus, focus + SHOWN_MAX / 2))
        }
        _ => format!("{} …", cut(0, SHOWN_MAX)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_page_is_cut_to_the_entry_that_matters() {
        let entries: Vec<String> = (1..100).map(|seq| format!(r#"{{"seq":{seq},"kind":"text"}}"#)).collect();
        let text = format!(r#"{{"t":1,"e":"page","op":1,"entries":[{}],"more":false}}"#, entries.join(","));
        let shown = abridge(&text, (At::new(0, 1), 50).into());
        assert!(shown.starts_with(r#"{"t":1,"e":"page""#) && shown.contains(r#"… {"seq":50,"#), "{shown}");
        assert!(shown.len() < SHOWN_MAX);
        assert_eq!(abridge("short", At::new(0, 1).into()), "short");
        assert!(abridge(&"ä".repeat(SHOWN_MAX), At::new(0, 1).into()).ends_with("ä …"));
    }
}
