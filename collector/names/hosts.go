// SPDX-License-Identifier: Apache-2.0

package names

import (
	"bufio"
	"io"
	"net/netip"
	"os"
	"strings"

	"github.com/sheetbend/sheetbend/collector/config"
)

// maxHostsFile bounds what is read of a file of names, in bytes.
const maxHostsFile = 1 << 20

// ReadHosts reads a file like /etc/hosts, as far as it can be read.
func ReadHosts(path string) []config.Host {
	f, err := os.Open(path)
	if err != nil {
		return nil
	}
	defer f.Close()
	return ParseHosts(f)
}

// ParseHosts gives the names in the order of the file. Those of this host itself are left out: their addresses say more.
func ParseHosts(r io.Reader) (hosts []config.Host) {
	lines := bufio.NewScanner(io.LimitReader(r, maxHostsFile))
	for lines.Scan() {
		text, _, _ := strings.Cut(lines.Text(), "#")
		fields := strings.Fields(text)
		if len(fields) < 2 {
			continue
		}
		a, err := netip.ParseAddr(fields[0])
		if a = a.WithZone("").Unmap(); err != nil || a.IsLoopback() || a.IsUnspecified() || a.IsMulticast() {
			continue
		}
		for _, name := range fields[1:] {
			if len(name) <= 255 && len(hosts) < config.MaxHosts {
				hosts = append(hosts, config.Host{Address: a, Name: name})
			}
		}
	}
	return hosts
}
