//! Reports in JUnit's form, read by another parser than ours.

use std::{path::Path, process::Command};

use serde_json::Value;

/// What the strictest reader's schema allows (Jenkins' xUnit plugin): for each element its attributes, those that must be
/// there marked with `!`, and the elements in it.
const READ: &str = "
import json, re, sys, xml.etree.ElementTree as tree
ALLOWED = {
    'testsuites': ('name time tests failures errors', 'testsuite'),
    'testsuite': ('!name !tests !failures !errors group time skipped timestamp hostname id package file log url', 'properties testcase'),
    'properties': ('', 'property'),
    'property': ('!name !value', ''),
    'testcase': ('!name time classname group', 'skipped error failure'),
    'failure': ('type message', ''),
    'error': ('type message', ''),
    'skipped': ('type message', ''),
}
def check(element):
    attributes, inner = (text.split() for text in ALLOWED[element.tag])
    required = {name[1:] for name in attributes if name[0] == '!'}
    assert required <= set(element.attrib) <= {name.lstrip('!') for name in attributes}, (element.tag, element.attrib)
    time = element.attrib.get('time', '0')
    assert re.fullmatch(r'[0-9]+(\\.[0-9]+)?', time), time
    for child in element:
        assert child.tag in inner, (element.tag, child.tag)
        check(child)
root = tree.parse(sys.argv[1]).getroot()
assert root.tag == 'testsuites', root.tag
check(root)
def read(suite):
    cases = list(suite.iter('testcase'))
    names = [(case.attrib['classname'], case.attrib['name']) for case in cases]
    assert len(set(names)) == len(names), names
    assert len(cases) == int(suite.attrib['tests']), suite.attrib
    for tag, count in [('failure', 'failures'), ('error', 'errors'), ('skipped', 'skipped')]:
        assert len(list(suite.iter(tag))) == int(suite.attrib[count]), (tag, suite.attrib)
    return {
        'suite': suite.attrib,
        'properties': {one.attrib['name']: one.attrib['value'] for one in suite.iter('property')},
        'cases': [{**case.attrib, **{one.tag: [{**one.attrib, 'text': one.text}] for one in case}} for case in cases],
    }
for count in ('tests', 'failures', 'errors'):
    assert int(root.attrib[count]) == sum(int(suite.attrib[count]) for suite in root), (count, root.attrib)
own, *jobs = [read(suite) for suite in root]
print(json.dumps({**own, 'jobs': jobs}))
";

/// The suite of the run, and in `jobs` those of its jobs.
pub fn read(path: &Path) -> Value {
    let output = Command::new("python3").args(["-c", READ]).arg(path).output().expect("python3 starts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("it prints JSON")
}
