//! Golden frames: what this version writes is, to the byte, what the files in `golden/` hold, and what they hold is read.
//!
//! A difference means that nodes of two builds no longer understand each other. Where that is meant, and the major version says so,
//! `MUSTER_WRITE_GOLDEN=1 cargo test --test wire golden` writes the files anew.

use std::fs;
use std::path::PathBuf;

use super::{codec, known};

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/wire/golden")
}

#[test]
fn known_values_are_written_as_ever() {
    let rewrite = std::env::var_os("MUSTER_WRITE_GOLDEN").is_some();
    for (name, message) in known::messages() {
        let frame = codec().encode(&known::life(), &message).unwrap();
        let file = folder().join(format!("{name}.bin"));
        if rewrite {
            fs::write(&file, &frame).unwrap();
        }
        let golden = fs::read(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        let differs = frame.iter().zip(&golden).position(|(ours, theirs)| ours != theirs);
        assert_eq!(differs, None, "{name}: first difference at this byte");
        assert_eq!(frame.len(), golden.len(), "{name}");
    }
}

#[test]
fn golden_frames_are_read() {
    for (name, message) in known::messages() {
        let golden = fs::read(folder().join(format!("{name}.bin"))).unwrap();
        let envelope = codec().decode_from(&golden, &known::life().node).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(envelope.from, known::life(), "{name}");
        assert_eq!(envelope.message, message, "{name}");
    }
}

#[test]
fn every_golden_file_has_its_value() {
    let mut names: Vec<_> = known::messages().into_iter().map(|(name, _)| format!("{name}.bin")).collect();
    let mut files: Vec<_> = fs::read_dir(folder()).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    files.sort();
    assert_eq!(files, names);
}
