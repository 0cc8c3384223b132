// SPDX-License-Identifier: Apache-2.0

// Package host describes the machine that the sensor runs on, as resource attributes.
package host

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/sheetbend/sheetbend/collector/span"
)

// maxValue bounds a value from the environment or a file, in bytes.
const maxValue = 4096

// BootID identifies this boot of the kernel; span ids are computed from it.
func BootID() (string, error) {
	text, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return "", fmt.Errorf("read the boot id: %w", err)
	}
	return strings.TrimSpace(string(text)), nil
}

// Attributes are host.name, host.id, host.arch, os.type, os.version and ip of this machine. What
// cannot be found out is left out.
func Attributes() []span.Attr {
	attrs := []span.Attr{
		text("host.arch", arch(runtime.GOARCH)), text("os.type", "linux"), text("ip", address(net.InterfaceAddrs)),
	}
	if id := machineID("/"); id != "" {
		attrs = append(attrs, text("host.id", id))
	}
	var uts unix.Utsname
	if err := unix.Uname(&uts); err == nil {
		attrs = append(attrs, text("host.name", unix.ByteSliceToString(uts.Nodename[:])),
			text("os.version", unix.ByteSliceToString(uts.Release[:])))
	}
	return attrs
}

// machineID is machine-id(5), where D-Bus keeps it on hosts without systemd otherwise.
func machineID(root string) string {
	for _, file := range []string{"etc/machine-id", "var/lib/dbus/machine-id"} {
		b, err := os.ReadFile(filepath.Join(root, file))
		id := strings.TrimSpace(string(b))
		if err == nil && id != "" && id != "uninitialized" && len(id) <= maxValue {
			return id
		}
	}
	return ""
}

// address is one of the host, its first that others can reach, else loopback's. It is not in the semantic
// conventions: Jaeger's JSON API (1.76, hostKey in clockskew.go) knows by `ip` alone that two spans were timed by
// one clock. Without it, it warns of each span that is outside of its parent's time, as all are that a long-lived
// process starts after its own span has been sent.
func address(list func() ([]net.Addr, error)) string {
	addrs, _ := list()
	for _, a := range addrs {
		if n, ok := a.(*net.IPNet); ok && n.IP.IsGlobalUnicast() {
			return n.IP.String()
		}
	}
	return "127.0.0.1"
}

// arch is the value of host.arch in the semantic conventions.
func arch(goarch string) string {
	switch goarch {
	case "386":
		return "x86"
	case "arm":
		return "arm32"
	}
	return goarch
}

func text(key, value string) span.Attr {
	return span.Attr{Key: key, Kind: span.StringAttr, Str: strings.ToValidUTF8(value, "\uFFFD")}
}

// FromEnvironment returns the attributes of OTEL_RESOURCE_ATTRIBUTES (key=value pairs with
// commas between, values percent-encoded) and, as service.name, OTEL_SERVICE_NAME. A service.name
// among the pairs is left out: the pairs describe the deployment, and would rename every
// agent on the host. As the specification asks, a variable with an error in it is
// ignored as a whole; the error names the place.
func FromEnvironment(getenv func(string) string) ([]span.Attr, error) {
	var attrs []span.Attr
	var err error
	if list := getenv("OTEL_RESOURCE_ATTRIBUTES"); strings.TrimSpace(list) != "" {
		if attrs, err = pairs(list); err != nil {
			attrs, err = nil, fmt.Errorf("OTEL_RESOURCE_ATTRIBUTES is ignored: %w", err)
		}
	}
	attrs = slices.DeleteFunc(attrs, func(a span.Attr) bool { return a.Key == "service.name" })
	if name := getenv("OTEL_SERVICE_NAME"); name != "" && len(name) <= maxValue {
		attrs = Merge(attrs, []span.Attr{text("service.name", name)})
	}
	return attrs, err
}

func pairs(list string) ([]span.Attr, error) {
	const most = 128 // the attribute count limit of the specification
	var attrs []span.Attr
	for pair := range strings.SplitSeq(list, ",") {
		if strings.TrimSpace(pair) == "" {
			continue
		}
		key, value, ok := strings.Cut(pair, "=")
		key = strings.TrimSpace(key)
		if !ok || key == "" {
			return nil, fmt.Errorf("%.60q is not key=value", pair)
		}
		decoded, err := url.PathUnescape(strings.TrimSpace(value))
		if err != nil {
			return nil, fmt.Errorf("the value of %.60s is not percent-encoded: %w", key, err)
		}
		if len(key) > maxValue || len(decoded) > maxValue {
			return nil, fmt.Errorf("%.60s is longer than %d bytes", key, maxValue)
		}
		if attrs = Merge(attrs, []span.Attr{text(strings.ToValidUTF8(key, "\uFFFD"), decoded)}); len(attrs) > most {
			return nil, errors.New("more than 128 attributes")
		}
	}
	return attrs, nil
}

// Merge returns base with the attributes of over added, which replace those of the same key. It
// may reuse base.
func Merge(base, over []span.Attr) []span.Attr {
next:
	for _, o := range over {
		for i := range base {
			if base[i].Key == o.Key {
				base[i] = o
				continue next
			}
		}
		base = append(base, o)
	}
	return base
}
