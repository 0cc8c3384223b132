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
		name string
		flag string
		env  env
		want string // "" means none
		err  string // part of the error
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
		{name: "a unix socket is plain text", flag: "unix:///run/otel.sock", want: "unix:///run/otel.sock"},
		{name: "spaces around do not matter", flag: "  http://h:1 \n", want: "http://h:1"},

		{name: "the general variable", env: env{general: "http://h:1"}, want: "http://h:1"},
		{name: "the traces variable wins", env: env{general: "http://h:1", traces: "http://t:2"}, want: "http://t:2"},
		{name: "the flag wins over both", flag: "http://f:3", env: env{general: "http://h:1", traces: "http://t:2"}, want: "http://f:3"},
		{name: "no traces wanted", env: env{general: "http://h:1", "OTEL_TRACES_EXPORTER": "none"}},
		{name: "the flag wins over no traces wanted", flag: "http://f:3", env: env{"OTEL_TRACES_EXPORTER": "none"}, want: "http://f:3"},
		{name: "grpc is said", env: env{general: "http://h:1", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}, want: "http://h:1"},
		{name: "another protocol is refused", env: env{general: "http://h:1", "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf"}, err: "only grpc is supported"},
		{name: "the traces protocol wins", env: env{general: "http://h:1", "OTEL_EXPORTER_OTLP_PROTOCOL": "http/json", "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": "grpc"}, want: "http://h:1"},
		{name: "the agent's protocol does not matter to the flag", flag: "http://f:3", env: env{"OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf"}, want: "http://f:3"},

		{name: "an unknown scheme", flag: "ftp://h:1", err: `unknown scheme "ftp"`},
		{name: "a path", flag: "http://h:4318/v1/traces", err: "has a path"},
		{name: "a query", flag: "http://h:1?x=y", err: "has a path"},
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
			e, ok, err := FindEndpoint(tt.flag, func(k string) string { return tt.env[k] })
			switch {
			case tt.err != "":
				if err == nil || !strings.Contains(err.Error(), tt.err) {
					t.Fatalf("error is %v, want one with %q", err, tt.err)
				}
				if strings.Contains(err.Error(), "sec") && !strings.Contains(err.Error(), "milliseconds") {
					t.Errorf("the error repeats the password: %v", err)
				}
			case err != nil:
				t.Fatal(err)
			case !ok && tt.want != "" || ok && e.String() != tt.want:
				t.Errorf("got %q, %t, want %q", e, ok, tt.want)
			}
		})
	}
}
