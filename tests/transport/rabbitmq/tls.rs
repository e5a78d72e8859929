//! TLS with an authority of our own, certificates on both sides, and a broker that asks for them.

use std::path::Path;

use crate::support::{
    Demo, Place,
    broker::{self, free_port},
    certificates::{self, authority, certificate},
    demo::Ran,
};

const SETTINGS: &str = "workers: { foo: demo_file_worker }\n";

fn tls(port: u16, options: &str) -> String {
    format!("{SETTINGS}transport: amqps://guest:guest@127.0.0.1:{port}/%2f\ntls: {{ {options} }}\n")
}

/// A command whose transport is that of the file.
fn run(demo: &Demo, settings: &str, arguments: &[&str]) -> Ran {
    demo.write("asynctask.yaml", settings);
    demo.run_configured(arguments)
}

fn submits(demo: &Demo, settings: &str) {
    let ran = run(demo, settings, &["submit", "foo", "1"]);
    assert_eq!(ran.code, 0, "{settings}: {}", ran.stderr);
}

#[test]
fn a_broker_with_certificates_of_its_own_is_spoken_to() {
    if !certificates::can_be_made() {
        return;
    }
    let demo = Demo::new(&Place::sqlite());
    let folder = demo.folder.path();
    authority(folder, "ca");
    authority(folder, "other");
    certificate(folder, "ca", "server", "localhost", "DNS:localhost,DNS:broker.example");
    certificate(folder, "ca", "client", "guest", "DNS:client");
    certificate(folder, "other", "stranger", "guest", "DNS:client");
    let port = free_port();
    let file = |name: &str| folder.join(name).display().to_string();
    let settings = format!(
        "listeners.ssl.1 = 127.0.0.1:{port}\nssl_options.cacertfile = {}\nssl_options.certfile = {}\n\
         ssl_options.keyfile = {}\nssl_options.verify = verify_peer\nssl_options.fail_if_no_peer_cert = true\n\
         auth_mechanisms.1 = PLAIN\nauth_mechanisms.2 = EXTERNAL\nssl_cert_login_from = common_name\n",
        file("ca.pem"),
        file("server.pem"),
        file("server.key")
    );
    let Some(broker) = broker::own_with(&settings, "rabbitmq_auth_mechanism_ssl") else { return };
    let whole = "ca: ca.pem, certificate: client.pem, key: client.key, server_name: localhost";

    submits(&demo, &tls(port, whole));
    // In the address, by the broker's names, relative to the file as well.
    let query = "cacertfile=ca.pem&certfile=client.pem&keyfile=client.key&verify=verify_peer";
    let address = format!("amqps://guest:guest@127.0.0.1:{port}/%2f?{query}&server_name_indication=broker.example");
    submits(&demo, &format!("{SETTINGS}transport: {address}\n"));
    // No password at all: the certificate says who we are.
    let external = format!("amqps://127.0.0.1:{port}/%2f?auth_mechanism=external");
    submits(&demo, &format!("{SETTINGS}transport: {external}\ntls: {{ {whole} }}\n"));
    let ran = run(&demo, &tls(port, whole), &["workers", "--halt-when-empty"]);
    assert_eq!((ran.code, demo.done().len()), (0, 3), "{}{}", ran.stdout, ran.stderr);

    // What does not fit is refused at once, and told with what helps.
    let refused = [
        (whole.replace("ca.pem", "other.pem"), "signed by no authority", "tls: { ca: FILE }"),
        ("ca: ca.pem, certificate: client.pem, key: client.key".to_owned(), "not for the name", "server_name"),
        ("ca: ca.pem, server_name: localhost".to_owned(), "wants a certificate of ours", "certificate: FILE"),
        (whole.replace("client.", "stranger."), "wants a certificate of ours", "certificate: FILE"),
    ];
    for (options, told, help) in refused {
        for command in [&["submit", "foo", "1"][..], &["workers"]] {
            let ran = run(&demo, &tls(port, &options), command);
            assert_eq!(ran.code, 69, "{options}: {}{}", ran.stdout, ran.stderr);
            assert!(ran.stderr.contains(told) && ran.stderr.contains(help), "{options}: {}", ran.stderr);
        }
    }
    let ran = run(&demo, &tls(broker.port(), whole), &["submit", "foo", "1"]);
    assert!(ran.code == 69 && ran.stderr.contains("speaks no TLS"), "{}", ran.stderr);
}

#[test]
fn files_for_tls_are_looked_at_before_anything_starts() {
    if !certificates::can_be_made() {
        return;
    }
    let demo = Demo::new(&Place::sqlite());
    let folder = demo.folder.path();
    authority(folder, "ca");
    certificate(folder, "ca", "client", "guest", "DNS:client");
    certificate(folder, "ca", "another", "guest", "DNS:client");
    demo.write("text.pem", "no certificate\n");
    demo.write("locked.key", "-----BEGIN ENCRYPTED PRIVATE KEY-----\nc2VjcmV0\n-----END ENCRYPTED PRIVATE KEY-----\n");
    let check = |options: &str| run(&demo, &tls(1, options), &["config", "check"]);
    let key = std::fs::read_to_string(Path::new(folder).join("another.key")).expect("it was made");
    for (options, told) in [
        ("ca: nowhere.pem", "3:12: error: tls.ca: "),
        ("ca: text.pem", "holds no certificate"),
        ("ca: .", "is no regular file"),
        ("ca: another.key", "holds no certificate"),
        ("certificate: client.pem", "certificate and key go together"),
        ("key: client.key", "certificate and key go together"),
        ("ca: ca.pem, certificate: client.pem, key: another.key", "does not go with the certificate"),
        ("certificate: client.pem, key: client.pem", "holds no key"),
        ("certificate: client.pem, key: locked.key", "is encrypted"),
        ("cacert: ca.pem", "unknown key"),
    ] {
        let ran = check(options);
        let told = told.trim_start_matches("3:12: error: ");
        assert!(ran.code == 78 && ran.stderr.contains(told), "{options}: {}", ran.stderr);
        assert!(ran.stderr.contains("asynctask.yaml:3:"), "{options}: {}", ran.stderr);
        assert!(!key.lines().skip(1).any(|line| line.len() > 20 && ran.stderr.contains(line)), "{}", ran.stderr);
    }
    assert_eq!(check("ca: ca.pem, certificate: client.pem, key: client.key, server_name: x").code, 0);
    for (transport, told) in [
        ("amqp://h", "is for a transport of amqps:// addresses"),
        ("sqlite:a.db", "is for a transport of amqps:// addresses"),
        ("amqps://h?cacertfile=ca.pem", "one of both is too much"),
    ] {
        let ran = run(&demo, &format!("transport: {transport}\ntls: {{ ca: ca.pem }}\n"), &["config", "check"]);
        assert!(ran.code == 78 && ran.stderr.contains(told), "{transport}: {}", ran.stderr);
    }
}
