// SPDX-License-Identifier: Apache-2.0

package main

import (
	"regexp"
	"time"
)

var describedTag = regexp.MustCompile(`^v?(\d+\.\d+\.\d+)(?:-([A-Za-z][0-9A-Za-z.]*))?(?:-(\d+)-g([0-9a-f]+))?(-dirty)?$`)

// versionOf makes a version that deb and rpm order as the commits are of what git describe says. Without a tag the time
// of the commit orders, below every tag.
func versionOf(described string, at time.Time) string {
	m := describedTag.FindStringSubmatch(described)
	if m == nil {
		other := regexp.MustCompile(`[^0-9A-Za-z.]+`).ReplaceAllString(described, ".")
		return "0.0.0~" + at.Format("20060102150405") + "." + other
	}
	version := m[1]
	if m[2] != "" {
		version += "~" + m[2]
	}
	if m[3] != "" {
		version += "+" + m[3] + ".g" + m[4]
	}
	if m[5] != "" {
		version += "+dirty"
	}
	return version
}
