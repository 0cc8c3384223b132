// SPDX-License-Identifier: Apache-2.0

package otlp

import (
	"strings"
	"testing"
)

func TestFindEndpoint(t *testing.T) {
	const (
		general = "OTEL_EXPORTER_OTLP_ENDPOINT"
		traces  = "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"
	)
	type env map[string]string
	tests := []struct {
		name     string
		flag     string
		protocol Protocol
		env      env
		want     string // "" means none; behind a space the protocol, if it is not gRPC
		err      string // part of the error
	}{
		{name: "nothing said means not used"},
		{name: "http is plain text", flag: "http://127.0.0.1:4317", want: "http://127.0.0.1:4317"},
		{name: "https is TLS", flag: "https://collector:4317", want: "https://collector:4317"},
		{name: "https without a port is 443", flag: "https://api.example.com", want: "https://api.example.com:443"},
		{name: "http without a port is 4317", flag: "http://collector/", want: "http://collector:4317"},
		{name: "host and port alone is TLS", flag: "collector:4317", want: "https://collector:4317"},
		{name: "host and port alone is plain text when the variable says insecure", flag: "collector:4317", env: env{"OTEL_EXPORTER_OTLP_INSECURE": "true"}, want: "http://collector:4317"},
		{name: "the traces variable for insecure wins", flag: "collector:4317", env: env{"OTEL_EXPORTER_OTLP_INSECURE": "true", "OTEL_EXPORTER_OTLP_TRACES_INSECURE": "false"}, want: "https://collector:4317"},
		{name: "an address without a scheme is understood", flag: "127.0.0.1:4317", want: "https://127.0.0.1:4317"},
		{name: "IPv6", flag: "http://[::1]:4317", want: "http://[::1]:4317"},
		{name: "IPv6 with a zone", flag: "http://[fe80::1%25eth0]:4318", want: "http://[fe80::1%25eth0]:4318/v1/traces http/protobuf"},
		{name: "a unix socket is plain text", flag: "unix:///run/otel.sock", want: "unix:///run/otel.sock"},
		{name: "spaces around do not matter", flag: "  http://h:1 \n", want: "http://h:1"},

		{name: "the general variable", env: env{general: "http://h:1"}, want: "http://h:1"},
		{name: "the traces variable wins", env: env{general: "http://h:1", traces: "http://t:2"}, want: "http://t:2"},
		{name: "the flag wins over both", flag: "http://f:3", env: env{general: "http://h:1", traces: "http://t:2"}, want: "http://f:3"},
		{name: "no traces wanted", env: env{general: "http://h:1", "OTEL_TRACES_EXPORTER": "none"}},
		{name: "traces on the console", env: env{general: "http://h:1", "OTEL_TRACES_EXPORTER": "console"}},
		{name: "traces over OTLP, too", env: env{general: "http://h:1", "OTEL_TRACES_EXPORTER": "console, otlp"}, want: "http://h:1"},
		{name: "no SDK", env: env{general: "http://h:1", "OTEL_SDK_DISABLED": "True"}},
		{name: "the flag wins over no SDK", flag: "http://f:3", env: env{"OTEL_SDK_DISABLED": "true"}, want: "http://f:3"},
		{name: "the flag wins over no traces wanted", flag: "http://f:3", env: env{"OTEL_TRACES_EXPORTER": "none"}, want: "http://f:3"},
		{name: "grpc is said", env: env{general: "http://h:1", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}, want: "http://h:1"},
		{name: "HTTP is said", env: env{general: "http://h:1", "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf"}, want: "http://h:1/v1/traces http/protobuf"},
		{name: "JSON is sent as protobuf", env: env{general: "http://h:1", "OTEL_EXPORTER_OTLP_PROTOCOL": "http/json"}, want: "http://h:1/v1/traces http/protobuf"},
		{name: "an unknown protocol is refused", env: env{general: "http://h:1", "OTEL_EXPORTER_OTLP_PROTOCOL": "http"}, err: "it can be grpc or http/protobuf"},
		{name: "the general variable is a base", env: env{general: "http://h:4318/otlp/"}, want: "http://h:4318/otlp/v1/traces http/protobuf"},
		{name: "a base may look as if it were none", env: env{general: "http://h:4318/v1/traces"}, want: "http://h:4318/v1/traces/v1/traces http/protobuf"},
		{name: "the traces variable is used as it is", env: env{traces: "http://h:4318/a%2Fb/"}, want: "http://h:4318/a%2Fb/ http/protobuf"},
		{name: "without a path that is the root", env: env{traces: "http://h:4318", "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf"}, want: "http://h:4318/ http/protobuf"},
		{name: "the configured protocol wins over the variable", protocol: GRPC, env: env{general: "http://h:4318", "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf"}, want: "http://h:4318"},
		{name: "the traces protocol wins", env: env{general: "http://h:1", "OTEL_EXPORTER_OTLP_PROTOCOL": "http/json", "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": "grpc"}, want: "http://h:1"},
		{name: "the agent's protocol does not matter to the flag", flag: "http://f:3", env: env{"OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf"}, want: "http://f:3"},

		{name: "the port says HTTP", flag: "http://h:4318", want: "http://h:4318/v1/traces http/protobuf"},
		{name: "the path says HTTP", flag: "https://h/otlp", want: "https://h/otlp/v1/traces http/protobuf"},
		{name: "the path of traces is taken as it is", flag: "http://h:4318/v1/traces", want: "http://h:4318/v1/traces http/protobuf"},
		{name: "what was said wins over the port", flag: "http://h:4318", protocol: GRPC, want: "http://h:4318"},
		{name: "HTTP without a port is 80", flag: "http://h", protocol: HTTP, want: "http://h/v1/traces http/protobuf"},
		{name: "HTTP without a scheme is 4318 and TLS", flag: "h", protocol: HTTP, want: "https://h:4318/v1/traces http/protobuf"},
		{name: "HTTP over a unix socket", flag: "unix:///run/otel.sock", protocol: HTTP, want: "unix:///run/otel.sock http/protobuf"},

		{name: "an unknown scheme", flag: "ftp://h:1", err: `unknown scheme "ftp"`},
		{name: "a path over gRPC", flag: "http://h:4317/v1/traces", protocol: GRPC, err: "has a path"},
		{name: "a query is refused and not repeated", flag: "http://h:1/v1/traces?token=secret", err: "put credentials into"},
		{name: "a header that is none is not repeated", flag: "http://h:1", env: env{"OTEL_EXPORTER_OTLP_HEADERS": "a=b,,secret"}, err: "number 3 in OTEL_EXPORTER_OTLP_HEADERS is not"},
		{name: "an unknown compression", flag: "http://h:1", env: env{"OTEL_EXPORTER_OTLP_COMPRESSION": "zstd"}, err: "it can be gzip or none"},
		{name: "no host", flag: "http://:4317", err: "names no host"},
		{name: "only a scheme", flag: "https://", err: "names no host"},
		{name: "port 0", flag: "http://h:0", err: "1 to 65535"},
		{name: "a port too high", flag: "http://h:70000", err: "1 to 65535"},
		{name: "a port that is no number", flag: "http://h:otlp", err: "not a URL"},
		{name: "a password is not repeated in the error", flag: "http://user:secret@h:1", err: "holds a user name"},
		{name: "a password is not repeated when the rest is broken", flag: "http://user:sec%ret@h:1", err: "is not a URL"},
		{name: "a host with a space", flag: "http://my host:1", err: "is not a URL"},
		{name: "a unix socket without a path", flag: "unix://", err: "names no socket"},
		{name: "the error of a variable names it", env: env{traces: "gopher://h"}, err: traces},
		{name: "a timeout that is no number", flag: "http://h:1", env: env{"OTEL_EXPORTER_OTLP_TIMEOUT": "10s"}, err: "milliseconds"},
		{name: "certificates do not matter without TLS", flag: "http://h:1", env: env{"OTEL_EXPORTER_OTLP_CERTIFICATE": "/nonexistent.pem"}, want: "http://h:1"},
		{name: "a client certificate without its key", flag: "https://h:1", env: env{"OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE": "/c.pem"}, err: "set both or none"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			e, ok, err := FindEndpoint(tt.flag, tt.protocol, func(k string) string { return tt.env[k] })
			got := e.String()
			if e.Protocol != GRPC {
				got += " " + string(e.Protocol)
			}
			switch {
			case tt.err != "":
				if err == nil || !strings.Contains(err.Error(), tt.err) {
					t.Fatalf("error is %v, want one with %q", err, tt.err)
				}
				if strings.Contains(strings.ReplaceAll(err.Error(), "milliseconds", ""), "sec") {
					t.Errorf("the error repeats the password: %v", err)
				}
			case err != nil:
				t.Fatal(err)
			case !ok && tt.want != "" || ok && got != tt.want:
				t.Errorf("got %q, %t, want %q", got, ok, tt.want)
			case ok && e.Why == "":
				t.Error("it does not say why")
			case tt.env["OTEL_EXPORTER_OTLP_PROTOCOL"] == "http/json" && e.Protocol == HTTP && !strings.Contains(e.Why, "sent as protobuf"):
				t.Errorf("because %q", e.Why)
			}
		})
	}
}
