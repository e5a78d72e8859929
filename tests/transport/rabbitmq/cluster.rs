//! Several addresses of one cluster, tried in turn.

use asynctask::transport::{Error, Event, Request};

use super::At;
use crate::contract::party::{Party, setup, task};
use crate::support::{Demo, Place, broker, broker::free_port, log::until, proxy::Proxy};

fn connected(party: &mut Party<'_, At>) -> String {
    party.wait("Connected", |event| match event {
        Event::Connected(uri) => Some(uri.clone()),
        _ => None,
    })
}

#[test]
fn who_is_not_there_is_passed_over_at_once() {
    let Some(At(address)) = At::fresh() else { return };
    let port = broker::shared().expect("it was there a moment ago").port();
    let nobody = || address.replace(&format!(":{port}"), &format!(":{}", free_port()));
    let at = At(format!("{},{address},{}", nobody(), nobody()));
    let client = Party::client(&at);
    client.call(|reply| Request::Submit { tasks: vec![task("foo", "a")], reply }).unwrap();
    let (first, second) = (nobody(), nobody());
    let none = At(format!("{first},{second}"));
    let client = Party::client(&none);
    let error = client.call(|reply| Request::Submit { tasks: vec![task("foo", "a")], reply }).unwrap_err();
    let text = error.to_string();
    assert!(matches!(error, Error::Unreachable { .. }) && !text.contains(":guest@"), "{text}");
    for tried in [first, second] {
        assert!(text.contains(&tried.replace(":guest@", ":***@")), "{text}");
    }
    // A wrong password at each of them is final, at one of them it is not.
    let wrong = address.replace("guest:guest", "guest:wrong");
    let client_at = At(format!("{wrong},{wrong}"));
    let mut party = Party::client(&client_at);
    party.ask(Request::Attach { queues: vec![setup("foo", &[])], passive: false });
    party.wait("Refused", |event| matches!(event, Event::Refused(Error::Refused { .. })).then_some(()));
    let half = At(format!("{wrong},{address}"));
    let mut party = Party::client(&half);
    party.ask(Request::Attach { queues: vec![setup("foo", &[])], passive: false });
    assert!(connected(&mut party).contains("guest:***@"));
    party.close();
}

#[test]
fn a_lost_session_is_built_at_the_next_address_without_a_pause() {
    let Some(At(address)) = At::fresh() else { return };
    let port = broker::shared().expect("it was there a moment ago").port();
    let proxies = [Proxy::before(port), Proxy::before(port)];
    let through = proxies.each_ref().map(|proxy| proxy.address(&address, port));
    let shown = through.each_ref().map(|uri| uri.replace(":guest@", ":***@"));
    let at = At(through.join(","));
    let mut party = Party::client(&at);
    party.ask(Request::Attach { queues: vec![setup("foo", &[])], passive: false });
    assert_eq!(connected(&mut party), shown[0]);
    proxies[0].sever();
    let (error, pause) = party.wait("Lost", |event| match event {
        Event::Lost { error, again_in } => Some((error.to_string(), *again_in)),
        _ => None,
    });
    assert!(error.contains(&shown[0]) && pause.is_zero(), "{error}, {pause:?}");
    assert_eq!(connected(&mut party), shown[1]);
    proxies[0].mend();
    proxies[1].sever();
    assert_eq!(connected(&mut party), shown[0]);
    party.close();
}

#[test]
fn status_shows_the_address_in_use_and_commands_take_a_list() {
    let Some(Place::Amqp(uri)) = Place::amqp() else { return };
    let port = broker::shared().expect("it was there a moment ago").port();
    let nobody = uri.replace(&format!(":{port}"), &format!(":{}", free_port()));
    let mut demo = Demo::new(&Place::Amqp(format!("[{nobody}, \"{uri}\"]")));
    demo.write("asynctask.yaml", &format!("transport:\n- {nobody}\n- {uri}\nworkers: {{ foo: demo_file_worker }}\n"));
    let mut master = demo.start_configured(&["--set", "control.socket=s"]);
    master.expect("Starting; queue=foo");
    let status = || demo.json(&["status", "--json", "--socket", "s"])["transport"].clone();
    until("there is no session", || status()["connected"] == true);
    assert_eq!(status()["uri"], uri.replace(":guest@", ":***@").as_str());
    demo.submit("foo", "1");
    demo.uri = format!("{nobody} ; {uri}");
    demo.submit("foo", "2");
    master.expect("Processing complete");
    master.expect("Processing complete");
    let shown = demo.run(&["config", "show"]).stdout;
    let list = [&nobody, &uri].map(|uri| uri.replace(":guest@", ":***@")).join(", ");
    assert!(shown.contains(&list), "{shown}");
}
