//! Certificates made for a test by the `openssl` program, good for two days.

use std::{
    path::Path,
    process::{Command, Stdio},
};

/// Whether they can be made; if not, it is said.
pub fn can_be_made() -> bool {
    let made = Command::new("openssl").arg("version").stdout(Stdio::null()).stderr(Stdio::null()).status();
    let can = made.is_ok_and(|status| status.success());
    if !can {
        super::left_out("no openssl program found");
    }
    can
}

/// `NAME.pem` and `NAME.key` of an authority.
pub fn authority(folder: &Path, name: &str) {
    openssl(
        folder,
        &[
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:prime256v1",
            "-nodes",
            "-days",
            "2",
            "-subj",
            &format!("/CN={name}"),
            "-keyout",
            &format!("{name}.key"),
            "-out",
            &format!("{name}.pem"),
        ],
    );
}

/// `NAME.pem` and `NAME.key` for `/CN=COMMON`, signed by an authority, good for these further names.
pub fn certificate(folder: &Path, authority: &str, name: &str, common: &str, names: &str) {
    let (key, request) = (format!("{name}.key"), format!("{name}.csr"));
    openssl(
        folder,
        &[
            "req",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:prime256v1",
            "-nodes",
            "-subj",
            &format!("/CN={common}"),
            "-keyout",
            &key,
            "-out",
            &request,
        ],
    );
    std::fs::write(folder.join("extensions"), format!("subjectAltName={names}\n")).expect("a file of ours");
    openssl(
        folder,
        &[
            "x509",
            "-req",
            "-days",
            "2",
            "-in",
            &request,
            "-CA",
            &format!("{authority}.pem"),
            "-CAkey",
            &format!("{authority}.key"),
            "-CAcreateserial",
            "-extfile",
            "extensions",
            "-out",
            &format!("{name}.pem"),
        ],
    );
}

fn openssl(folder: &Path, arguments: &[&str]) {
    let output = Command::new("openssl").args(arguments).current_dir(folder).stdin(Stdio::null()).output();
    let output = output.expect("openssl starts");
    assert!(output.status.success(), "openssl {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
}
