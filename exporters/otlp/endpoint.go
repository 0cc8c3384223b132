// SPDX-License-Identifier: Apache-2.0

package otlp

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// Endpoint is where spans go over OTLP/gRPC.
type Endpoint struct {
	Target   string // as gRPC dials it: host:port or unix:path
	Insecure bool   // without TLS
}

// String is the endpoint as a user would write it.
func (e Endpoint) String() string {
	switch {
	case strings.HasPrefix(e.Target, "unix:"):
		return e.Target
	case e.Insecure:
		return "http://" + e.Target
	}
	return "https://" + e.Target
}

// FindEndpoint decides where spans go: to flag (of the command line or the configuration) if it is not empty, else to
// OTEL_EXPORTER_OTLP_TRACES_ENDPOINT or OTEL_EXPORTER_OTLP_ENDPOINT. It reports false when neither says so; then OTLP
// is not used at all.
//
// http:// means plain text, https:// TLS, unix: a socket; host:port alone means TLS unless
// OTEL_EXPORTER_OTLP_TRACES_INSECURE or OTEL_EXPORTER_OTLP_INSECURE is "true". The port is 4317 unless given (443
// with https://).
//
// The variables that select another protocol or no traces at all (OTEL_EXPORTER_OTLP_TRACES_PROTOCOL,
// OTEL_EXPORTER_OTLP_PROTOCOL, OTEL_TRACES_EXPORTER) matter only to an endpoint from the environment: they are often
// set for the agent that runs under the sensor. The error is one sentence for the user.
func FindEndpoint(flag string, getenv func(string) string) (e Endpoint, ok bool, err error) {
	insecure := strings.EqualFold(lookup(getenv, "INSECURE"), "true")
	if text := strings.TrimSpace(flag); text != "" {
		if e, err = parseEndpoint(text, insecure); err != nil {
			return Endpoint{}, false, fmt.Errorf("OTLP endpoint %w", err)
		}
		return e, true, checkEnvironment(e, getenv)
	}
	for _, name := range []string{"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT"} {
		text := strings.TrimSpace(getenv(name))
		if text == "" {
			continue
		}
		if exporters := strings.TrimSpace(getenv("OTEL_TRACES_EXPORTER")); exporters == "none" {
			return Endpoint{}, false, nil
		}
		if p := lookup(getenv, "PROTOCOL"); p != "" && p != "grpc" {
			return Endpoint{}, false, fmt.Errorf("%s is set but the protocol in OTEL_EXPORTER_OTLP_PROTOCOL is %q, "+
				"and only grpc is supported: set it to grpc and the endpoint to the gRPC port, "+
				"or OTEL_TRACES_EXPORTER=none to send nothing", name, p)
		}
		if e, err = parseEndpoint(text, insecure); err != nil {
			return Endpoint{}, false, fmt.Errorf("%s %w", name, err)
		}
		return e, true, checkEnvironment(e, getenv)
	}
	return Endpoint{}, false, nil
}

// lookup reads the variable of the traces signal, else the general one, as the OTLP exporter specification says.
func lookup(getenv func(string) string, suffix string) string {
	if v := strings.TrimSpace(getenv("OTEL_EXPORTER_OTLP_TRACES_" + suffix)); v != "" {
		return v
	}
	return strings.TrimSpace(getenv("OTEL_EXPORTER_OTLP_" + suffix))
}

func parseEndpoint(text string, insecure bool) (Endpoint, error) {
	const hint = "give it as http://host:4317, https://host:4317 or host:4317"
	if strings.HasPrefix(text, "unix:") {
		if path := strings.TrimPrefix(strings.TrimPrefix(text, "unix:"), "//"); path == "" {
			return Endpoint{}, errors.New("unix: names no socket: give it as unix:///path/to/socket")
		}
		return Endpoint{Target: text, Insecure: true}, nil
	}
	port := "4317"
	rest := text
	if scheme, after, found := strings.Cut(text, "://"); found {
		switch strings.ToLower(scheme) {
		case "http":
			insecure = true
		case "https":
			insecure = false
			port = "443"
		default:
			return Endpoint{}, fmt.Errorf("has the unknown scheme %q: %s", scheme, hint)
		}
		rest = after
	}
	u, err := url.Parse("//" + rest)
	if err != nil {
		// url's error repeats the text, which may hold a password.
		return Endpoint{}, fmt.Errorf("is not a URL: %s", hint)
	}
	if u.User != nil {
		return Endpoint{}, errors.New("holds a user name: " +
			"put credentials into OTEL_EXPORTER_OTLP_HEADERS or the exporter's headers")
	}
	if u.Hostname() == "" {
		return Endpoint{}, fmt.Errorf("%q names no host: %s", text, hint)
	}
	if strings.Trim(u.Path, "/") != "" || u.RawQuery != "" || u.Fragment != "" {
		return Endpoint{}, fmt.Errorf("%q has a path, which OTLP over gRPC does not use: %s", text, hint)
	}
	if strings.ContainsFunc(u.Hostname(), func(r rune) bool { return r <= ' ' || r == 0x7f }) {
		return Endpoint{}, fmt.Errorf("%q is not a host name: %s", text, hint)
	}
	if p := u.Port(); p != "" {
		if n, err := strconv.ParseUint(p, 10, 16); err != nil || n == 0 {
			return Endpoint{}, fmt.Errorf("%q has the port %s, which is not from 1 to 65535", text, p)
		}
		port = p
	}
	return Endpoint{Target: net.JoinHostPort(u.Hostname(), port), Insecure: insecure}, nil
}

// checkEnvironment finds the mistakes that otlptracegrpc reports to a global logger only, and then ignores. The files
// are read by who sends, with the rights that are given for it.
func checkEnvironment(e Endpoint, getenv func(string) string) error {
	if _, err := timeoutFromEnvironment(getenv); err != nil {
		return err
	}
	if e.Insecure {
		return nil
	}
	cert, key := lookup(getenv, "CLIENT_CERTIFICATE"), lookup(getenv, "CLIENT_KEY")
	if (cert == "") != (key == "") {
		return errors.New("OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE and OTEL_EXPORTER_OTLP_CLIENT_KEY " +
			"only work together: set both or none")
	}
	return nil
}

// timeoutFromEnvironment is 0 when no variable says how long one attempt may take.
func timeoutFromEnvironment(getenv func(string) string) (time.Duration, error) {
	text := lookup(getenv, "TIMEOUT")
	if text == "" {
		return 0, nil
	}
	ms, err := strconv.ParseInt(text, 10, 32)
	if err != nil || ms <= 0 {
		return 0, fmt.Errorf("OTEL_EXPORTER_OTLP_TIMEOUT is %q: give it in milliseconds, for example 10000", text)
	}
	return time.Duration(ms) * time.Millisecond, nil
}
