// SPDX-License-Identifier: Apache-2.0

package host

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/sheetbend/sheetbend/collector/span"
)

func pairsOf(attrs []span.Attr) []string {
	var out []string
	for _, a := range attrs {
		out = append(out, a.Key+"="+a.Str)
	}
	return out
}

func TestFromEnvironment(t *testing.T) {
	for _, c := range []struct {
		name, list, service string
		want                []string
		says                string
	}{
		{name: "nothing set, nothing added"},
		{name: "pairs keep their order", list: "b=1,a=2", want: []string{"b=1", "a=2"}},
		{name: "values are percent-decoded", list: "team=a%2Cb%3Dc+d", want: []string{"team=a,b=c+d"}},
		{name: "spaces around keys and values go", list: " a = 1 , b=2,", want: []string{"a=1", "b=2"}},
		{name: "the last of two equal keys counts", list: "a=1,a=2", want: []string{"a=2"}},
		{name: "the service name has a variable of its own", list: "service.name=x,a=1", service: "y", want: []string{"a=1", "service.name=y"}},
		{name: "a service name in the list alone does not count", list: "service.name=x,a=1", want: []string{"a=1"}},
		{name: "one bad pair spoils the list but not the service name", list: "a=1,b", service: "y", want: []string{"service.name=y"}, says: `"b" is not key=value`},
		{name: "bad percent-encoding is an error", list: "a=%zz", says: "not percent-encoded"},
		{name: "invalid UTF-8 is replaced", list: "a=%ff", want: []string{"a=\uFFFD"}},
		{name: "an endless value is an error", list: "a=" + strings.Repeat("x", 5000), says: "longer than"},
	} {
		t.Run(c.name, func(t *testing.T) {
			attrs, err := FromEnvironment(func(key string) string {
				return map[string]string{"OTEL_RESOURCE_ATTRIBUTES": c.list, "OTEL_SERVICE_NAME": c.service}[key]
			})
			if got := pairsOf(attrs); !slices.Equal(got, c.want) {
				t.Errorf("attributes %q, want %q", got, c.want)
			}
			if (err != nil) != (c.says != "") || err != nil && !strings.Contains(err.Error(), c.says) {
				t.Errorf("error %v, want %q", err, c.says)
			}
		})
	}
}

func TestTheHostIsDescribedWithoutRepeats(t *testing.T) {
	seen := map[string]bool{}
	for _, a := range Attributes() {
		if a.Str == "" || seen[a.Key] {
			t.Errorf("attribute %s=%q is empty or there twice", a.Key, a.Str)
		}
		seen[a.Key] = true
	}
	for _, key := range []string{"host.name", "host.arch", "os.type", "os.version"} {
		if !seen[key] {
			t.Errorf("%s is missing", key)
		}
	}
}

func TestTheMachineIDComesFromTheFirstFileThatHasOne(t *testing.T) {
	root := t.TempDir()
	write := func(file, text string) {
		t.Helper()
		if err := os.MkdirAll(filepath.Dir(filepath.Join(root, file)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(root, file), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if id := machineID(root); id != "" {
		t.Errorf("id %q from nothing", id)
	}
	write("var/lib/dbus/machine-id", "abc\n")
	write("etc/machine-id", "uninitialized\n")
	if id := machineID(root); id != "abc" {
		t.Errorf("id %q, want the one of D-Bus", id)
	}
	write("etc/machine-id", "def\n")
	if id := machineID(root); id != "def" {
		t.Errorf("id %q, want that of /etc", id)
	}
}

func TestTheBootIDIsKnown(t *testing.T) {
	if id, err := BootID(); err != nil || len(id) != 36 {
		t.Errorf("boot id %q, %v", id, err)
	}
}
