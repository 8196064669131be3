//! Settings that are none.

use super::*;

#[test]
fn settings_that_are_none() {
    use alter_configs_request as whole;
    use incremental_alter_configs_request as steps;
    let (_broker, mut raw) = broker();
    let step = |kind: i8, name: &str, configs: &[(&str, i8, Option<&str>)]| {
        let configs = configs.iter().map(|(name, operation, value)| {
            steps::AlterableConfig::default()
                .with_name(words(name))
                .with_config_operation(*operation)
                .with_value(value.map(words))
        });
        steps::AlterConfigsResource::default()
            .with_resource_type(kind)
            .with_resource_name(words(name))
            .with_configs(configs.collect())
    };
    let alter = |raw: &mut Raw, resources: Vec<steps::AlterConfigsResource>| -> Vec<i16> {
        let request = IncrementalAlterConfigsRequest::default().with_resources(resources);
        let reply: IncrementalAlterConfigsResponse = raw.kafka(ApiKey::IncrementalAlterConfigs, 1, &request);
        reply.responses.iter().map(|response| response.error_code).collect()
    };
    let good = ("retention.ms", 0, Some("5000"));
    for (what, resource, code) in [
        ("an unknown setting", step(2, "t", &[("no.such", 0, Some("1"))]), InvalidConfig),
        ("a value that is none", step(2, "t", &[("retention.ms", 0, Some("soon"))]), InvalidConfig),
        ("no value", step(2, "t", &[("retention.ms", 0, None)]), InvalidRequest),
        ("an unknown topic", step(2, "nobody", &[good]), UnknownTopicOrPartition),
        ("no topic", step(2, "", &[good]), InvalidRequest),
        ("an unknown kind", step(77, "t", &[good]), InvalidRequest),
        ("an unknown step", step(2, "t", &[("retention.ms", 9, Some("1"))]), InvalidRequest),
        ("a step for lists", step(2, "t", &[("retention.ms", 2, Some("1"))]), InvalidConfig),
        ("a setting twice", step(2, "t", &[good, good]), InvalidRequest),
    ] {
        expect(what, alter(&mut raw, vec![resource]), [code]);
    }
    let twice = vec![step(2, "t", &[good]), step(2, "t", &[good])];
    expect("a topic twice", alter(&mut raw, twice), [InvalidRequest; 2]);

    let replace = |raw: &mut Raw, kind: i8, name: &str, setting: &str, value: Option<&str>| {
        let config = whole::AlterableConfig::default().with_name(words(setting)).with_value(value.map(words));
        let resource = whole::AlterConfigsResource::default()
            .with_resource_type(kind)
            .with_resource_name(words(name))
            .with_configs(vec![config]);
        let request = AlterConfigsRequest::default().with_resources(vec![resource]);
        let reply: AlterConfigsResponse = raw.kafka(ApiKey::AlterConfigs, 2, &request);
        [reply.responses[0].error_code]
    };
    for (kind, name, setting, value, code) in [
        (2, "t", "no.such", Some("1"), InvalidConfig),
        (2, "t", "retention.ms", None, InvalidRequest),
        (2, "nobody", "retention.ms", Some("1"), UnknownTopicOrPartition),
        (77, "t", "retention.ms", Some("1"), InvalidRequest),
    ] {
        let what = format!("replace {setting} of {kind} {name}");
        expect(&what, replace(&mut raw, kind, name, setting, value), [code]);
    }

    let describe = |raw: &mut Raw, kind: i8, name: &str| {
        let resource = describe_configs_request::DescribeConfigsResource::default()
            .with_resource_type(kind)
            .with_resource_name(words(name))
            .with_configuration_keys(Some(vec![words("max.message.bytes"), words("retention.ms")]));
        let request = DescribeConfigsRequest::default().with_resources(vec![resource]);
        let mut reply: DescribeConfigsResponse = raw.kafka(ApiKey::DescribeConfigs, 4, &request);
        reply.results.remove(0)
    };
    for (kind, name, code) in [
        (2, "nobody", UnknownTopicOrPartition),
        (2, "a/b", InvalidTopicException),
        (77, "t", InvalidRequest),
        (4, "99999", InvalidRequest),
        (4, "me", InvalidRequest),
    ] {
        expect(&format!("describe {kind} {name}"), [describe(&mut raw, kind, name).error_code], [code]);
    }
    // Nothing was changed.
    let values: Vec<String> = describe(&mut raw, 2, "t")
        .configs
        .iter()
        .map(|config| format!("{}={}", &*config.name, &**config.value.as_ref().unwrap()))
        .collect();
    assert_eq!(values, ["max.message.bytes=2000", "retention.ms=604800000"]);
}
