//! Our own lints: what neither rustfmt nor clippy looks at.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

/// From this length on a file wants to be two.
const LINES_MAX: usize = 600;

/// Notes to oneself belong in the issues. Written in two parts so that this file passes.
const NOTES: [&str; 4] = [concat!("TO", "DO"), concat!("FIX", "ME"), concat!("XX", "X"), concat!("HA", "CK")];

/// The one file that may go without the compiler's help, and the word for it.
const UNCHECKED: (&str, &str) = ("crates/store/src/embedded/linux.rs", concat!("un", "safe"));

/// What the lints found.
#[derive(Debug, Default)]
pub(crate) struct Report {
    /// What has to be mended: `path:line: what`.
    pub(crate) errors: Vec<String>,
    /// What a reviewer should look at.
    pub(crate) remarks: Vec<String>,
    /// How many files were read.
    pub(crate) files: usize,
}

/// Lints all Rust files of the project.
pub(crate) fn run(root: &Path) -> Result<Report> {
    let mut report = Report::default();
    for folder in ["crates", "xtask", "fuzz"] {
        for path in rust_files(&root.join(folder))? {
            let text = fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
            lint(&path.strip_prefix(root)?.display().to_string(), &text, &mut report);
            report.files += 1;
        }
    }
    Ok(report)
}

fn lint(path: &str, text: &str, report: &mut Report) {
    if !text.starts_with("//!") {
        report.errors.push(format!("{path}:1: open the module with `//!` and say what it is for"));
    }
    for (number, line) in (1..).zip(text.lines()) {
        if let Some(note) = NOTES.iter().find(|note| has_word(line, note)) {
            report.errors.push(format!("{path}:{number}: {note}: do it, or file an issue"));
        }
        if path != UNCHECKED.0 && !line.trim_start().starts_with("//") && has_word(line, UNCHECKED.1) {
            report.errors.push(format!("{path}:{number}: only {} may be {}", UNCHECKED.0, UNCHECKED.1));
        }
        if line.trim_start().starts_with("#[ignore") {
            report.errors.push(format!(
                "{path}:{number}: an ignored test proves nothing: mend it, or assert what happens today and say why"
            ));
        }
    }
    let lines = text.lines().count();
    if lines > LINES_MAX {
        report.remarks.push(format!("{path}: {lines} lines (over {LINES_MAX}): is it one thing?"));
    }
}

/// Whether `word` stands in `line` by itself.
fn has_word(line: &str, word: &str) -> bool {
    line.match_indices(word).any(|(at, _)| {
        let (before, after) = (&line[..at], &line[at + word.len()..]);
        let is_word = |c: char| c.is_alphanumeric() || c == '_';
        !before.ends_with(is_word) && !after.starts_with(is_word)
    })
}

/// The Rust files below `folder`, in order; none if it does not exist.
fn rust_files(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    let mut folders = vec![folder.to_path_buf()];
    while let Some(folder) = folders.pop().filter(|folder| folder.is_dir()) {
        for item in fs::read_dir(&folder).with_context(|| format!("list {}", folder.display()))? {
            let path = item?.path();
            if path.is_dir() && path.file_name().is_some_and(|name| name != "target") {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                files.push(path);
            }
        }
    }
    files.sort();
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, errors: usize, remarks: usize) {
        let mut report = Report::default();
        lint("a.rs", text, &mut report);
        assert_eq!((report.errors.len(), report.remarks.len()), (errors, remarks), "{text:?}: {report:?}");
    }

    #[test]
    fn a_module_says_what_it_is_for() {
        check("//! Good.\n", 0, 0);
        check("use std::fs;\n", 1, 0);
        check("", 1, 0);
    }

    #[test]
    fn notes_to_oneself_are_found_as_words_only() {
        check(concat!("//! A.\n// TO", "DO: later\n"), 1, 0);
        check(concat!("//! A.\nfn f() {} // (FIX", "ME)\n"), 1, 0);
        check(concat!("//! A.\nconst XX", "XL: u8 = 1;\n"), 0, 0);
    }

    #[test]
    fn one_file_alone_goes_without_the_compilers_help() {
        let text = concat!("//! A.\nlet x = un", "safe { f() };\n");
        check(text, 1, 0);
        check(concat!("//! A.\n// No un", "safe code.\n"), 0, 0);
        let mut report = Report::default();
        lint(UNCHECKED.0, text, &mut report);
        assert!(report.errors.is_empty(), "{report:?}");
    }

    #[test]
    fn ignored_tests_are_refused() {
        check("//! A.\n    #[ignore = \"slow\"]\n", 1, 0);
    }

    #[test]
    fn long_files_are_remarked_upon() {
        check(&"//! A.\n".repeat(LINES_MAX), 0, 0);
        check(&"//! A.\n".repeat(LINES_MAX + 1), 0, 1);
    }

    #[test]
    fn the_project_is_tidy() -> Result<()> {
        let report = run(&crate::root()?)?;
        assert_eq!(report.errors, Vec::<String>::new());
        assert!(report.files > 10, "only {} files were found", report.files);
        Ok(())
    }
}
