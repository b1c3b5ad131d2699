"""An example for every filter, routing policy and matcher, as it stands in a chain: for the reference page and its test."""

from __future__ import annotations

from koukan.config import filters, matchers, routing
from koukan.config.base import ConfigModel

EXAMPLES: dict[type[ConfigModel], str] = {
    # --- filters ----------------------------------------------------------------------------------------------------------
    filters.RemoteHost: """
- filter: remote_host
""",
    filters.MessageBuilder: """
- filter: message_builder
""",
    filters.MessageParser: """
- filter: router
  destination:
    endpoint: receiver
    options: {receive_parsing: {max_inline: 65536}}
- filter: message_parser
""",
    filters.MessageValidation: """
- filter: message_validation
""",
    filters.ReceivedHeader: """
- filter: received_header
  received_hostname: mx.example.com
""",
    filters.DkimSign: """
- filter: dkim_sign
  keys:
    - domain: example.com
      selector: s2026
      key: /etc/koukan/dkim/example.com.pem
    - domain: example.org
      selector: s2026
      key: /etc/koukan/dkim/example.org.pem
""",
    filters.DkimCheck: """
- filter: dkim_check
""",
    filters.SpfCheck: """
- filter: spf_check
  extra_domains: [partner.example]
""",
    filters.AuthenticationResults: """
- filter: remote_host
- filter: spf_check
- filter: dkim_check
- filter: authentication_results
  authserv_id: mx.example.com
""",
    filters.DnsResolution: """
- filter: router
  policy:
    name: dest_domain
    destination: {endpoint: gateway}
- filter: dns_resolution
  suffix: ""
""",
    filters.Router: """
- filter: router
  policy:
    name: address_list
    domains: [example.com]
    destination: {endpoint: receiver}
- filter: router
  destination:
    endpoint: gateway
    host_list: [{host: smarthost.example.net, port: 587}]
""",
    filters.PolicyAction: """
- filter: message_validation
- filter: policy_action
  tag: valid
  name: not-a-message
  match: {matcher: message_validation, validity_threshold: BASIC}
  action: REJECT
  code: 550
  message: 5.6.0 this is no message
- filter: policy_action
  tag: valid
  name: sloppy
  match: {matcher: message_validation, validity_threshold: HIGH}
  action: [[9, LOG], [1, REJECT]]
""",
    filters.RelayAuth: """
- filter: relay_auth
  allowlist: [192.0.2.0/24, "2001:db8::/32"]
""",
    filters.AddRoute: """
- filter: add_route
  sender: archive
  store_and_forward: true
""",
    filters.Exploder: """
- filter: exploder
  rcpt_timeout: 30
  data_timeout: 300
""",
    filters.RestOutput: """
- filter: router
  destination: {endpoint: gateway}
- filter: rest_output
  data_timeout: 600
""",
    filters.Hello: """
- filter: hello
""",
    filters.PluginFilter: """
- filter: acme_stamp
  department: sales
""",
    # --- routing policies -------------------------------------------------------------------------------------------------
    routing.AddressListPolicy: """
- filter: router
  policy:
    name: address_list
    domains: [example.com]
    prefixes: [bob, alice]
    delimiter: "+"
    destination: {endpoint: receiver, options: {receive_parsing: {}}}
- filter: router
  policy:
    name: address_list
    domains: [example.com]   # no destination: everybody else there is unknown, 550
""",
    routing.DestDomainPolicy: """
- filter: router
  policy:
    name: dest_domain
    destination: {endpoint: gateway}
- filter: dns_resolution
  suffix: ""
""",
    routing.HelloPolicy: """
- filter: router
  policy: {name: hello}
""",
    routing.PluginPolicy: """
- filter: router
  policy:
    name: acme_tenants
    tenants:
      red.example: {endpoint: receiver}
""",
    # --- matchers ---------------------------------------------------------------------------------------------------------
    matchers.AddressList: """
- filter: policy_action
  tag: forged
  match:
    all:
      - {matcher: address_list, which_addr: mail_from, domains: [example.com]}
      - not: {matcher: smtp_auth}
  action: REJECT
""",
    matchers.InvalidMailFrom: """
- filter: policy_action
  tag: address
  match: {matcher: invalid_mail_from}
  action: REJECT
  code: 553
  message: 5.1.7 the sender's address is no address
""",
    matchers.InvalidRcptTo: """
- filter: policy_action
  tag: address
  mode: PER_RCPT
  match: {matcher: invalid_rcpt_to}
  action: REJECT
  code: 553
  message: 5.1.3 the recipient's address is no address
""",
    matchers.NetworkAddress: """
- filter: policy_action
  tag: local
  match:
    any:
      - {matcher: network_address, cidr: 192.0.2.0/24}
      - {matcher: network_address, cidr: "2001:db8::/32"}
""",
    matchers.NumRcpts: """
- filter: policy_action
  tag: recipients
  mode: PER_RCPT
  match: {matcher: num_rcpts, max_rcpts: 100}
  action: REJECT
  code: 452
  message: 4.5.3 too many recipients
""",
    matchers.SmtpTls: """
- filter: policy_action
  tag: tls
  match: {not: {matcher: smtp_tls}}
  action: REJECT
  code: 530
  message: 5.7.0 must issue a STARTTLS command first
""",
    matchers.SmtpAuth: """
- filter: policy_action
  tag: submission
  match: {matcher: smtp_auth}
""",
    matchers.HelloMatcher: """
- filter: policy_action
  tag: everything
  match: {matcher: hello}
  action: LOG
""",
    matchers.RemoteHostMatcher: """
- filter: remote_host
- filter: policy_action
  tag: client
  match: {matcher: remote_host, fcrdns: false}
  action: REJECT
  message: 5.7.25 your address has no name that leads back to it
""",
    matchers.MessageValidationMatcher: """
- filter: message_validation
- filter: policy_action
  tag: loop
  match: {matcher: message_validation, max_received_headers: 30}
  action: REJECT
  code: 554
  message: 5.4.6 the mail goes round in circles
""",
    matchers.SpfMatcher: """
- filter: spf_check
- filter: policy_action
  tag: spf
  match:
    any:
      - {matcher: spf_check, mail_from_result: fail}
      - {matcher: spf_check, mail_from_result: permerror}
  action: REJECT
  message: 5.7.23 SPF says that you may not send this
""",
    matchers.DkimMatcher: """
- filter: dkim_check
- filter: policy_action
  tag: signed
  match: {matcher: dkim_check, alignment: domain}
- filter: policy_action
  tag: unsigned
  match:
    all:
      - {matcher: address_list, which_addr: header_from, domains: [bank.example]}
      - not: {matcher: policy_action, tag: signed}
  action: REJECT
  message: 5.7.20 the bank signs what it sends
""",
    matchers.DnsResolutionMatcher: """
- filter: router
  policy:
    name: dest_domain
    destination: {endpoint: gateway}
- filter: dns_resolution
  suffix: ""
- filter: policy_action
  tag: recipient-domain
  mode: PER_RCPT
  match: {matcher: dns_resolution, rcpt_result: NX}
  action: REJECT
  message: 5.1.2 there is no such domain
""",
    matchers.PolicyActionMatcher: """
- filter: policy_action
  tag: known
  match: {matcher: network_address, cidr: 192.0.2.0/24}
- filter: policy_action
  tag: strangers
  match: {not: {matcher: policy_action, tag: known}}
  action: REJECT
""",
    matchers.PluginMatcher: """
- filter: policy_action
  tag: office
  match: {not: {matcher: acme_working_hours, from: 8, to: 18}}
""",
    # --- match expressions ------------------------------------------------------------------------------------------------
    matchers.NotExpression: """
- filter: policy_action
  tag: plain
  match:
    not: {matcher: smtp_tls}
""",
    matchers.AnyExpression: """
- filter: policy_action
  tag: trusted
  match:
    any:
      - {matcher: network_address, cidr: 192.0.2.0/24}
      - {matcher: smtp_auth}
""",
    matchers.AllExpression: """
- filter: policy_action
  tag: trusted
  match:
    all:
      - {matcher: smtp_tls}
      - {matcher: smtp_auth}
""",
}
