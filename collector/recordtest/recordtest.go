// SPDX-License-Identifier: Apache-2.0

// Package recordtest writes kernel records for tests: what package record reads.
package recordtest

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"strings"

	"github.com/sheetbend/sheetbend/collector/record"
)

// Path gives an absolute path as the kernel holds it.
func Path(p string) record.Components {
	var c record.Components
	parts := strings.Split(strings.Trim(p, "/"), "/")
	for n := len(parts) - 1; n >= 0; n-- {
		if parts[n] != "" {
			c = append(append(c, parts[n]...), 0)
		}
	}
	return c
}

// Args gives an argument vector as the kernel lays it out.
func Args(args ...string) []byte {
	var b []byte
	for _, a := range args {
		b = append(append(b, a...), 0)
	}
	return b
}

// Record encodes body, a struct of package record by value, after the header; the header's
// size, and its type when it is zero, are filled in. It panics on a body that is no
// kernel record, and on one that is too long for its length fields.
func Record(h record.Header, body any) []byte {
	return Append(nil, h, body)
}

// Append is Record that reuses memory.
func Append(dst []byte, h record.Header, body any) []byte {
	base := len(dst)
	le := binary.LittleEndian
	u16 := func(v uint16) { dst = le.AppendUint16(dst, v) }
	u32 := func(v uint32) { dst = le.AppendUint32(dst, v) }
	u64 := func(v uint64) { dst = le.AppendUint64(dst, v) }
	size := func(b []byte) {
		if len(b) > 0xffff {
			panic(fmt.Sprintf("recordtest: %d bytes do not fit a 16 bit length", len(b)))
		}
		u16(uint16(len(b)))
	}
	typed := func(t record.Type) {
		if h.Type == 0 {
			h.Type = t
		}
		u16(uint16(h.Type))
		u16(h.Flags)
		u32(0)
		u64(h.Time)
		u64(h.Cgroup)
		u64(h.Start)
		u64(h.ExecID)
		u32(h.Tgid)
		u32(h.Tid)
	}
	switch r := body.(type) {
	case record.Fork:
		typed(record.TypeFork)
		u64(r.ChildStart)
		u64(r.ChildCgroup)
		u32(r.ChildTgid)
		u32(r.ChildVpid)
	case record.Exec:
		typed(record.TypeExec)
		u64(r.ParentStart)
		u64(r.Inode)
		u32(r.ParentTgid)
		u32(r.UID)
		u32(r.EUID)
		u32(r.EGID)
		u32(r.Vpid)
		u32(r.Dev)
		u32(r.Argc)
		u32(r.ArgsSize)
		u32(r.ExeUID)
		u32(r.PeakRSS)
		size(r.Exe)
		size(r.Cwd)
		size(r.Filename)
		size(r.Env)
		size(r.Args)
		u16(0)
		u32(0)
		for _, b := range [][]byte{r.Exe, r.Cwd, r.Filename, r.Env, r.Args} {
			dst = append(dst, b...)
		}
	case record.ExecArgs:
		typed(record.TypeExecArgs)
		u32(r.Offset)
		u32(uint32(len(r.Args)))
		dst = append(dst, r.Args...)
	case record.Exit:
		typed(record.TypeExit)
		u64(r.CPU)
		u64(r.User)
		u64(r.System)
		u64(r.PeakRSS)
		u32(r.Status)
		u32(0)
	case record.Open:
		typed(record.TypeOpen)
		u64(r.Inode)
		u32(uint32(r.Error))
		u32(r.Flags)
		u32(r.Dev)
		u32(r.UID)
		size(r.Path)
		size(r.Name)
		u32(0)
		dst = append(append(dst, r.Path...), r.Name...)
	case record.Connect:
		typed(record.TypeConnect)
		u64(r.Cookie)
		dst = append(dst, r.Addr[:]...)
		u16(r.Family)
		u16(r.Protocol)
		u16(r.Port)
		u16(r.Op)
	case record.ConnectEnd:
		typed(record.TypeConnectEnd)
		u64(r.Cookie)
		u32(uint32(r.Error))
		u32(0)
	case record.Unix:
		typed(record.TypeUnix)
		u32(uint32(r.Error))
		size(r.Path)
		size(r.Name)
		dst = append(append(dst, r.Path...), r.Name...)
	case record.Cgroup:
		typed(record.TypeCgroupMkdir)
		u64(r.ID)
		u64(r.Parent)
		u32(uint32(len(r.Path)))
		u32(0)
		dst = append(dst, r.Path...)
	case record.Attach:
		typed(record.TypeCgroupAttach)
		u32(r.MoverTgid)
		u32(r.Vpid)
		u32(uint32(len(r.Path)))
		if r.Watched {
			u32(1)
		} else {
			u32(0)
		}
		dst = append(dst, r.Path...)
	case record.Process:
		typed(record.TypeProcess)
		u64(r.ParentStart)
		u64(r.Inode)
		u32(r.ParentTgid)
		u32(r.UID)
		u32(r.Vpid)
		u32(r.Dev)
		size(r.Exe)
		size(r.Cwd)
		u32(r.ExeUID)
		dst = append(append(dst, r.Exe...), r.Cwd...)
	case record.Socket:
		typed(record.TypeSocket)
		u32(uint32(r.Error))
		u32(r.Protocol)
		u16(r.Family)
		u16(r.Type)
		u16(r.Op)
		u16(0)
		u32(r.CID)
		u32(r.Port)
	case record.Namespace:
		typed(record.TypeNamespace)
		u32(r.Types)
		u32(uint32(r.Error))
		u16(r.Op)
		u16(0)
		u32(0)
	case record.Access:
		typed(record.TypeAccess)
		u64(r.TargetStart)
		u64(r.TargetCgroup)
		u32(r.TargetTgid)
		u32(uint32(r.Error))
		u16(r.Op)
		size(r.Exe)
		u32(r.Signal)
		dst = append(dst, r.Exe...)
	case record.Change:
		typed(record.TypeChange)
		u64(r.Inode)
		u64(r.Replaced)
		u64(r.Before)
		u64(r.After)
		u32(uint32(r.Error))
		u32(r.Flags)
		u32(r.Dev)
		u32(r.Nlink)
		u16(r.Op)
		u16(r.Mode)
		parts := [][]byte{r.Old.Dir, r.Old.Name, r.New.Dir, r.New.Name, r.Text}
		for _, b := range parts {
			size(b)
		}
		u16(0)
		dst = append(dst, bytes.Join(parts, nil)...)
	case record.Listen:
		typed(record.TypeListen)
		u64(r.Cookie)
		dst = append(dst, r.Addr[:]...)
		u16(r.Family)
		u16(r.Protocol)
		u16(r.Port)
		size(r.Path)
		size(r.Name)
		u16(0)
		u32(uint32(r.Error))
		dst = append(append(dst, r.Path...), r.Name...)
	case record.Accept:
		typed(record.TypeAccept)
		u64(r.Cookie)
		dst = append(append(dst, r.Addr[:]...), r.Peer[:]...)
		u16(r.Family)
		u16(r.Protocol)
		u16(r.Port)
		u16(r.PeerPort)
	case record.Close:
		typed(record.TypeClose)
		u64(r.Cookie)
		u64(r.Since)
		u64(r.Sent)
		u64(r.Received)
		dst = append(append(dst, r.Addr[:]...), r.Peer[:]...)
		u16(r.Family)
		u16(r.Protocol)
		u16(r.Port)
		u16(r.PeerPort)
		u32(uint32(r.Error))
		u16(r.Reason)
		if r.Incoming {
			u16(1)
		} else {
			u16(0)
		}
	case record.Packet:
		typed(record.TypePacket)
		u64(r.Cookie)
		dst = append(append(dst, r.Addr[:]...), r.Peer[:]...)
		u16(r.Family)
		u16(r.Port)
		u16(r.PeerPort)
		u16(r.What)
		u32(r.Offset)
		u32(r.Size)
		u32(uint32(len(r.Bytes)))
		u32(0)
		dst = append(dst, r.Bytes...)
	case record.ExecFailed:
		typed(record.TypeExecFailed)
		u32(uint32(r.Error))
		size(r.Path)
		size(r.Name)
		dst = append(append(dst, r.Path...), r.Name...)
	case record.OOM:
		typed(record.TypeOOM)
		u64(r.LimitCgroup)
		u32(r.ByTgid)
		u32(0)
	default:
		panic(fmt.Sprintf("recordtest: no kernel record: %T", body))
	}
	le.PutUint32(dst[base+4:], uint32(len(dst)-base))
	return dst
}
