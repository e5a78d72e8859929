//! What a broker means when it refuses: which permission on what, which limit, which part of the address; and what helps.
//!
//! The protocol has one code for all of it, so that the broker's own words have to be read. They stay part of what is said.

/// The refusal of a request, in words that name who lacks what, if that is why.
pub(super) fn words(said: &str) -> String {
    let mut quoted = said.split('\'').skip(1).step_by(2);
    let parts = [quoted.next(), quoted.next(), quoted.next()];
    // `ACCESS_REFUSED - [configure ]access to queue 'x' in vhost '/' refused for user 'u'`
    for kind in ["queue", "exchange", "topic"] {
        if let Some((before, _)) = said.split_once(&format!("access to {kind} '"))
            && let [Some(name), Some(vhost), Some(user)] = parts
        {
            let permission = ["configure", "write", "read"].into_iter().find(|word| before.trim_end().ends_with(word));
            // Brokers before 3.12 do not tell which.
            let permission = permission.unwrap_or("configure, write or read");
            return format!(
                "user \"{user}\" lacks the {permission} permission for {kind} \"{name}\" in virtual host \"{vhost}\" ({said})"
            );
        }
    }
    said.to_owned()
}

/// What may help against a refusal that says this.
pub(super) fn hint(cause: &str) -> &'static str {
    let hints = [
        (
            &["access to queue", "access to exchange", "access to topic"][..],
            "grant it with rabbitmqctl set_permissions; where all queues are there already, declare: passive makes none",
        ),
        (
            &["channel limit", "channels opened", "channel_max"],
            "a master takes a channel for each queue and some more: raise the limit on channels, or work fewer queues",
        ),
        (
            &["connection limit", "connections limit", "limit of connections"],
            "a master takes two connections, one more while it is looked at, one more with --scheduler, and each command one: raise the limit on connections of this user or virtual \
             host, or end others",
        ),
        (&["queue limit", "queues limit"], "raise the limit on queues of this virtual host, or delete others"),
        (
            &["password authentication failed", "no pg_hba.conf entry"],
            "check user and password of the transport's address, and the server's pg_hba.conf",
        ),
        (
            &["pool of transactions"],
            "submitting works through such a pool; masters need the server itself, or session pooling",
        ),
        (
            &["permission denied for database", "permission denied for schema"],
            "asynctask schema --sql prints what somebody with the right may run",
        ),
        (&["asynctask schema"], "or leave declare: passive out"),
        (
            &["too many connections", "too many clients"],
            "a master takes two to four sessions: raise max_connections, or run fewer masters",
        ),
        (&["is down"], "the virtual host is stopped; rabbitmqctl restart_vhost starts it"),
        (&["database \"", "role \""], "createdb and createuser make what is not there"),
        (
            &["not found"],
            "check user, password and virtual host of the transport's address: this one is not there (rabbitmqctl add_vhost \
             makes one; a / in its name is written %2F)",
        ),
        (&["UnknownIssuer"], "name the certificate of its authority: tls: { ca: FILE }"),
        (&["NotValidForName"], "name what its certificate is for: tls: { server_name: NAME }"),
        (&["a certificate of ours"], "name one and its key: tls: { certificate: FILE, key: FILE }"),
        (&["speaks no TLS"], "a broker listens for TLS at a port of its own, 5671 unless configured otherwise"),
        (&["certificate", "tls."], "see tls in the configuration"),
    ];
    let fits = |(signs, _): &&(&[&str], &str)| signs.iter().any(|sign| cause.contains(sign));
    hints.iter().find(fits).map_or("check user, password and virtual host of the transport's address", |(_, hint)| hint)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn permissions_and_limits_are_named() {
        let said = "ACCESS_REFUSED - access to queue 'x' in vhost '/' refused for user 'u'";
        assert!(words(said).starts_with(
            "user \"u\" lacks the configure, write or read permission for queue \"x\" in virtual host \"/\" (ACCESS"
        ));
        let said = "ACCESS_REFUSED - configure access to queue 'x' in vhost '/' refused for user 'u'";
        assert!(words(said).starts_with("user \"u\" lacks the configure permission for queue \"x\""));
        assert!(hint(&words(said)).contains("declare: passive"));
        for (said, help) in [
            ("ACCESS_REFUSED - Login was refused using authentication mechanism PLAIN.", "check user"),
            ("NOT_ALLOWED - vhost nope not found", "add_vhost"),
            ("NOT_ALLOWED - access to vhost 'v' refused for user 'u'", "check user"),
            (
                "NOT_ALLOWED - access to vhost 'v' refused for user 'u': connection limit (1) is reached",
                "two connections",
            ),
            ("NOT_ALLOWED - connection refused for user 'u': user connection limit (1) is reached", "two connections"),
            (
                "PRECONDITION_FAILED - cannot declare queue 'x': queue limit in vhost 'v' (1) is reached",
                "limit on queues",
            ),
            ("INTERNAL_ERROR - access to vhost 'v' refused for user 'u': vhost is down", "restart_vhost"),
        ] {
            assert!(hint(&words(said)).contains(help), "{said}: {}", hint(&words(said)));
        }
    }
}
