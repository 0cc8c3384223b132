// SPDX-License-Identifier: Apache-2.0

package otlp

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"unicode"
)

// Protocol is a way to say OTLP, by its name in OTEL_EXPORTER_OTLP_PROTOCOL.
type Protocol string

// The protocols that are spoken.
const (
	GRPC Protocol = "grpc"
	HTTP Protocol = "http/protobuf"
)

// httpJSON is not spoken: its endpoints are sent protobuf, which the specification has them take.
const httpJSON Protocol = "http/json"

// Endpoint is where batches go.
type Endpoint struct {
	Target   string   // host:port or unix:path
	Insecure bool     // without TLS
	Protocol Protocol // "" is GRPC
	// Path is where the Signal goes over HTTP, as in /v1/traces, percent-encoded. Other signals go to their own path
	// beside that, and nowhere if this is another.
	Path string
	// Signal is Traces (0, too), or Logs where the environment has another endpoint for those.
	Signal Signal
	Why    string // the protocol is this one, for people
}

// String is the endpoint as a user would write it; over HTTP, where its signal goes.
func (e Endpoint) String() string {
	switch {
	case e.Protocol == HTTP && e.socket() == "":
		return e.URL(e.signal())
	case e.signal() != Traces: // another one may be the same for traces
		return e.base() + " (" + e.signal().String() + ")"
	}
	return e.base()
}

func (e Endpoint) signal() Signal { return cmp.Or(e.Signal, Traces) }

func (e Endpoint) base() string {
	host := strings.ReplaceAll(e.Target, "%", "%25") // of an IPv6 zone
	switch {
	case e.socket() != "":
		return e.Target
	case e.Insecure:
		return "http://" + host
	}
	return "https://" + host
}

// socket is the path of a unix socket, or "".
func (e Endpoint) socket() string {
	path, _ := strings.CutPrefix(e.Target, "unix:")
	if path == e.Target {
		return ""
	}
	return strings.TrimPrefix(path, "//")
}

// URL is where a signal goes over HTTP; "" is nowhere.
func (e Endpoint) URL(s Signal) string {
	path := e.Path
	if s != e.signal() {
		prefix, ok := strings.CutSuffix(path, e.signal().Path())
		if !ok {
			return ""
		}
		path = prefix + s.Path()
	}
	if e.socket() != "" {
		return "http://localhost" + path
	}
	// The standard port in the Host header is another host to some servers.
	standard := ":443"
	if e.Insecure {
		standard = ":80"
	}
	return strings.TrimSuffix(e.base(), standard) + path
}

// FindEndpoint decides where spans go: to endpoint (of the command line or the configuration) if it is not empty, else
// to OTEL_EXPORTER_OTLP_TRACES_ENDPOINT or OTEL_EXPORTER_OTLP_ENDPOINT. It reports false when neither says so; then
// OTLP is not used at all.
//
// http:// means plain text, https:// TLS, unix: a socket; host:port alone means TLS unless
// OTEL_EXPORTER_OTLP_TRACES_INSECURE or OTEL_EXPORTER_OTLP_INSECURE is "true". Over gRPC the port is 4317 unless given
// (443 with https://), over HTTP the URL's standard port (4318 without http:// or https://).
//
// The protocol is the one given, for an endpoint from the environment else that of OTEL_EXPORTER_OTLP_TRACES_PROTOCOL
// or OTEL_EXPORTER_OTLP_PROTOCOL, and else gRPC, unless the port is 4318 or there is a path. Over HTTP the path is a
// base, to which /v1/traces is added; that of OTEL_EXPORTER_OTLP_TRACES_ENDPOINT, and one given that ends in
// /v1/traces, is used as it is.
//
// The variables of protocol, OTEL_SDK_DISABLED and OTEL_TRACES_EXPORTER matter only to an endpoint from the environment:
// they are often set for the agent that runs under the sensor. The error is one sentence for the user.
func FindEndpoint(
	endpoint string, protocol Protocol, getenv func(string) string,
) (e Endpoint, ok bool, err error) {
	r := reading{signal: Traces, protocol: protocol, why: "configured"}
	text, name := strings.TrimSpace(endpoint), "OTLP endpoint"
	r.asIs = strings.HasSuffix(text, Traces.Path())
	if text == "" {
		for _, name = range []string{variable(Traces, "ENDPOINT"), "OTEL_EXPORTER_OTLP_ENDPOINT"} {
			r.asIs = name == variable(Traces, "ENDPOINT")
			if text = strings.TrimSpace(getenv(name)); text != "" {
				break
			}
		}
		if text == "" || !tracesWanted(getenv) {
			return Endpoint{}, false, nil
		}
		r.chosenBy(getenv)
	}
	return r.find(text, name, getenv)
}

// FindLogsEndpoint is the endpoint of OTEL_EXPORTER_OTLP_LOGS_ENDPOINT, with the protocol given or that of the
// variables. It reports false when that is not set: logs go where traces go.
func FindLogsEndpoint(protocol Protocol, getenv func(string) string) (e Endpoint, ok bool, err error) {
	name := variable(Logs, "ENDPOINT")
	text := strings.TrimSpace(getenv(name))
	if text == "" {
		return Endpoint{}, false, nil
	}
	r := reading{signal: Logs, protocol: protocol, why: "configured", asIs: true}
	r.chosenBy(getenv)
	return r.find(text, name, getenv)
}

// chosenBy takes the protocol of the variables, if none is configured.
func (r *reading) chosenBy(getenv func(string) string) {
	if p := lookup(r.signal, getenv, "PROTOCOL"); p != "" && r.protocol == "" {
		r.protocol, r.why = Protocol(p), "OTEL_EXPORTER_OTLP_PROTOCOL is "+p
	}
}

// find reads the text of an endpoint, which name has.
func (r *reading) find(text, name string, getenv func(string) string) (e Endpoint, ok bool, err error) {
	insecure := strings.EqualFold(lookup(r.signal, getenv, "INSECURE"), "true")
	switch r.protocol {
	case "", GRPC, HTTP:
	case httpJSON:
		r.protocol, r.why = HTTP, r.why+", which is sent as protobuf"
	default:
		return Endpoint{}, false, fmt.Errorf("%s is set but its protocol is %q: it can be %s or %s",
			name, r.protocol, GRPC, HTTP)
	}
	if e, err = r.parse(text, insecure); err != nil {
		return Endpoint{}, false, fmt.Errorf("%s %w", name, err)
	}
	return e, true, checkEnvironment(e, getenv)
}

// reading is how the text of an endpoint is to be understood.
type reading struct {
	signal   Signal   // that it is for
	protocol Protocol // "": as the text has it
	why      string   // it is this one
	asIs     bool     // the path is that of the signal
}

// choose completes the protocol by what a URL has.
func (r *reading) choose(path bool, port string) {
	switch {
	case r.protocol != "":
	case path:
		r.protocol, r.why = HTTP, "it has a path"
	case port == "4318":
		r.protocol, r.why = HTTP, "the port is 4318"
	default:
		r.protocol, r.why = GRPC, "it has no path, and the port is not 4318"
	}
}

// place is the endpoint over the protocol that was chosen. path is percent-encoded.
func (r *reading) place(target string, insecure bool, path string) Endpoint {
	e := Endpoint{Target: target, Insecure: insecure, Protocol: r.protocol, Why: r.why, Signal: r.signal}
	switch {
	case e.Protocol != HTTP:
	case !r.asIs:
		e.Path = strings.TrimRight(path, "/") + r.signal.Path()
	case path == "":
		e.Path = "/"
	default:
		e.Path = path
	}
	return e
}

const endpointHint = "give it as http://host:4317 or https://host:4317 for gRPC, or as http://host:4318 for HTTP"

func (r *reading) parse(text string, insecure bool) (Endpoint, error) {
	if strings.HasPrefix(text, "unix:") {
		if (Endpoint{Target: text}).socket() == "" {
			return Endpoint{}, errors.New("unix: names no socket: give it as unix:///path/to/socket")
		}
		r.choose(false, "")
		r.asIs = false
		return r.place(text, true, ""), nil
	}
	scheme, rest, found := strings.Cut(text, "://")
	switch scheme = strings.ToLower(scheme); {
	case !found:
		scheme, rest = "", text
	case scheme == "http", scheme == "https":
		insecure = scheme == "http"
	default:
		return Endpoint{}, fmt.Errorf("has the unknown scheme %q: %s", scheme, endpointHint)
	}
	u, err := url.Parse("//" + rest)
	switch {
	case err != nil:
		// url's error repeats the text, which may hold a password.
		return Endpoint{}, fmt.Errorf("is not a URL: %s", endpointHint)
	case u.User != nil:
		return Endpoint{}, errors.New("holds a user name: " +
			"put credentials into OTEL_EXPORTER_OTLP_HEADERS or the exporter's headers")
	case u.RawQuery != "" || u.Fragment != "":
		return Endpoint{}, errors.New("holds a query or a fragment, which are not sent: " +
			"put credentials into OTEL_EXPORTER_OTLP_HEADERS or the exporter's headers")
	case u.Hostname() == "":
		return Endpoint{}, fmt.Errorf("%q names no host: %s", text, endpointHint)
	case !isHost(u.Hostname()):
		return Endpoint{}, fmt.Errorf("%q is not a host name or address: %s", text, endpointHint)
	}
	port, path := u.Port(), u.EscapedPath()
	hasPath := strings.Trim(path, "/") != ""
	if n, err := strconv.ParseUint(port, 10, 16); port != "" && (err != nil || n == 0) {
		return Endpoint{}, fmt.Errorf("%q has the port %s, which is not from 1 to 65535", text, port)
	}
	r.choose(hasPath, port)
	if r.protocol == GRPC && hasPath {
		return Endpoint{}, fmt.Errorf("%q has a path, which OTLP over gRPC does not use: "+
			"leave it out, or use the protocol %s", text, HTTP)
	}
	if port == "" {
		port = standardPort[r.protocol][scheme]
	}
	return r.place(net.JoinHostPort(u.Hostname(), port), insecure, path), nil
}

// isHost says whether text may be a name, or is an address.
func isHost(text string) bool {
	name := func(text string) bool {
		return !strings.ContainsFunc(text, func(r rune) bool {
			return r < 0x80 && !strings.ContainsRune("-._", r) && !unicode.IsLetter(r) && !unicode.IsDigit(r)
		})
	}
	if !strings.Contains(text, ":") {
		return name(text)
	}
	addr, err := netip.ParseAddr(text)
	return err == nil && name(addr.Zone())
}

// standardPort is by scheme; "" is none.
var standardPort = map[Protocol]map[string]string{
	GRPC: {"": "4317", "http": "4317", "https": "443"},
	HTTP: {"": "4318", "http": "80", "https": "443"},
}
