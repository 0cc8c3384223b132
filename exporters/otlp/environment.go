// SPDX-License-Identifier: Apache-2.0

package otlp

import (
	"cmp"
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"time"

	"google.golang.org/grpc/metadata"
)

// variable is the name of the one of a signal.
func variable(s Signal, suffix string) string {
	return "OTEL_EXPORTER_OTLP_" + strings.ToUpper(cmp.Or(s, Traces).String()) + "_" + suffix
}

// lookup reads the variable of the signal, else the general one, as the OTLP exporter specification says.
func lookup(s Signal, getenv func(string) string, suffix string) string {
	if v := strings.TrimSpace(getenv(variable(s, suffix))); v != "" {
		return v
	}
	return strings.TrimSpace(getenv("OTEL_EXPORTER_OTLP_" + suffix))
}

// tracesWanted says whether the environment wants spans to go over OTLP, if it names an endpoint.
func tracesWanted(getenv func(string) string) bool {
	if strings.EqualFold(strings.TrimSpace(getenv("OTEL_SDK_DISABLED")), "true") {
		return false
	}
	exporters := strings.TrimSpace(getenv("OTEL_TRACES_EXPORTER"))
	if exporters == "" {
		return true
	}
	for name := range strings.SplitSeq(exporters, ",") {
		if strings.TrimSpace(name) == "otlp" {
			return true
		}
	}
	return false
}

// checkEnvironment finds mistakes before anything is sent. Files are read by who sends, with the rights that are given
// for it.
func checkEnvironment(e Endpoint, getenv func(string) string) error {
	_, timeout := timeoutFromEnvironment(e.Signal, getenv)
	_, compression := compressed("", e.Signal, getenv)
	_, headers := headersFromEnvironment(e.Signal, getenv)
	if err := errors.Join(timeout, compression, headers); err != nil || e.Insecure {
		return err
	}
	cert, key := lookup(e.Signal, getenv, "CLIENT_CERTIFICATE"), lookup(e.Signal, getenv, "CLIENT_KEY")
	if (cert == "") != (key == "") {
		return errors.New("OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE and OTEL_EXPORTER_OTLP_CLIENT_KEY " +
			"only work together: set both or none")
	}
	return nil
}

// timeoutFromEnvironment is 0 when no variable says how long one attempt may take.
func timeoutFromEnvironment(s Signal, getenv func(string) string) (time.Duration, error) {
	text := lookup(s, getenv, "TIMEOUT")
	if text == "" {
		return 0, nil
	}
	ms, err := strconv.ParseInt(text, 10, 32)
	if err != nil || ms <= 0 {
		return 0, fmt.Errorf("OTEL_EXPORTER_OTLP_TIMEOUT is %q: give it in milliseconds, for example 10000", text)
	}
	return time.Duration(ms) * time.Millisecond, nil
}

// The values of SenderConfig.Compression.
const (
	Gzip = "gzip"
	None = "none"
)

// compressed says whether requests are, by the configuration, and the variable if that is empty.
func compressed(configured string, s Signal, getenv func(string) string) (bool, error) {
	what := configured
	if what == "" {
		what = lookup(s, getenv, "COMPRESSION")
	}
	if what != "" && what != Gzip && what != None {
		return false, fmt.Errorf("OTEL_EXPORTER_OTLP_COMPRESSION is %q: it can be %s or %s", what, Gzip, None)
	}
	return what == Gzip, nil
}

// headersFromEnvironment reads "name=value,name=value" with percent-encoded values. Errors name the place only: a value
// is a secret.
func headersFromEnvironment(s Signal, getenv func(string) string) (metadata.MD, error) {
	headers := metadata.MD{}
	n := 0
	for pair := range strings.SplitSeq(lookup(s, getenv, "HEADERS"), ",") {
		n++
		if strings.TrimSpace(pair) == "" {
			continue
		}
		name, text, ok := strings.Cut(pair, "=")
		value, err := url.PathUnescape(strings.TrimSpace(text))
		if !ok || err != nil {
			return nil, fmt.Errorf("number %d in OTEL_EXPORTER_OTLP_HEADERS is not of the form name=value", n)
		}
		if err := addHeader(headers, strings.TrimSpace(name), value); err != nil {
			return nil, fmt.Errorf("number %d in OTEL_EXPORTER_OTLP_HEADERS %w", n, err)
		}
	}
	return headers, nil
}
