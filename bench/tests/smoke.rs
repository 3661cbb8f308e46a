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
    for name in [
        "hand-batch",
        "idem-plain",
        "idem-plain-packed",
        "idem-slices",
        "idem-batch",
        "idem-batch-packed",
        "idem-batch-offset",
        "bare-idem-packed",
    ] {
        assert!(names.contains(&name) && table.contains(name), "{name} is not in {names:?}");
    }
    assert!(names.contains(&"idem-plain replay"), "{names:?}");
    assert!(names.contains(&"idem-batch-packed replay"), "{names:?}");
    let written = &report["rows"][0]["written"][0];
    assert!(written["table_bytes"].as_i64() > Some(0) && written["wal_bytes"].as_i64() > Some(0));
    let takeovers = report["takeovers"].as_array().unwrap();
    let sizes: Vec<_> = takeovers.iter().filter_map(|it| it["digests"].as_u64()).collect();
    assert_eq!(sizes, [0, 10_000, 10_000, 10_000]);
    assert!(table.contains("room for all"), "{table}");
    let plot = std::fs::read_to_string(out.path().join("latest.svg")).unwrap();
    assert!(plot.starts_with("<svg") && plot.contains("idem-batch"));
}
