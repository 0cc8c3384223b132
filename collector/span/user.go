// SPDX-License-Identifier: Apache-2.0

package span

// UserOf gives the user of this host whose doing the spans of s's instance are, if s tells: of an agent who ran its first
// program, as its session says; of what is no agent's who ran a program that stands under no other. Programs further down
// may have changed the user. In a container it is nobody of the host.
func UserOf(s *Span) (uid uint32, ok bool) {
	a := Attrs(s.Attrs)
	switch s.Kind {
	case Session, SessionEnd:
	case Exec, Start:
		if s.Above != (ID{}) && s.Above != s.Subject() || s.Instance != a.Text(KeySandboxID) {
			return 0, false
		}
	default:
		return 0, false
	}
	if s.Resource != nil && Attrs(s.Resource.Attrs).Text(KeyContainerID) != "" {
		return 0, false
	}
	id, ok := a.Int(KeyRealUserID)
	if !ok {
		id, ok = a.Int(KeyUserID)
	}
	return uint32(id), ok && id >= 0 && id <= 1<<32-1
}
