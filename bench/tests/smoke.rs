//! A smoke run: every contender works, on real services, and has the effects it must have. What it
//! measures is of no meaning: it is not even built for speed.

use std::process::Command;

use serde_json::Value;

#[test]
fn every_contender_of_a_quick_run_has_the_effects_it_must_have() {
    let out = tempfile::tempdir().unwrap();
    // Latency asks for a server that keeps the times of commits, which `cargo xtask bench` starts.
    let ran = Command::new(env!("CARGO_BIN_EXE_idem-bench"))
        .args(["--quick", "--events", "4000", "--latency", "0", "--markers", "100", "--out"])
        .arg(out.path())
        .output()
        .unwrap();
    let (table, said) =
        (String::from_utf8_lossy(&ran.stdout), String::from_utf8_lossy(&ran.stderr));
    assert!(ran.status.success(), "{said}\n{table}");
    let json = std::fs::read(out.path().join("latest.json")).unwrap();
    let report: Value = serde_json::from_slice(&json).unwrap();
    assert_eq!(report["wrong"].as_array().map(Vec::len), Some(0), "{said}");
    let names: Vec<&str> =
        report["rows"].as_array().unwrap().iter().filter_map(|row| row["name"].as_str()).collect();
    for name in ["hand-batch", "idem-plain", "idem-slices", "idem-batch", "idem-batch-offset"] {
        assert!(names.contains(&name) && table.contains(name), "{name} is not in {names:?}");
    }
    assert!(names.contains(&"idem-plain replay"), "{names:?}");
    let plot = std::fs::read_to_string(out.path().join("latest.svg")).unwrap();
    assert!(plot.starts_with("<svg") && plot.contains("idem-batch"));
}
