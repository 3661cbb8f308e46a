//! idem-sqlite
