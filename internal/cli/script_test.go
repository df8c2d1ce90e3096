package cli

import (
	"bytes"
	"debug/pe"
	"encoding/binary"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

// The stories in testdata/script run the command as a person would; the test's
// program plays ashlar when it is called by that name.
func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"ashlar": func() { os.Exit(Main(os.Args[1:])) }})
}

func TestStories(t *testing.T) {
	init := filepath.Join(t.TempDir(), "ashlar-init")
	build := exec.Command("go", "build", "-o", init, "github.com/ashlar-os/ashlar/cmd/ashlar-init")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Setup: func(env *testscript.Env) error {
			listener, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				return err
			}
			defer listener.Close()
			env.Setenv("ADDRESS", listener.Addr().String()) // free when the story begins
			env.Setenv("INIT", init)
			env.Setenv("HOME", env.WorkDir)
			return nil
		},
		Cmds: map[string]func(ts *testscript.TestScript, neg bool, args []string){
			"efi":      writeEFIProgram,
			"await":    awaitServer,
			"registry": startRegistry,
		},
	})
}

// writeEFIProgram writes what systemd's stub and loader are to the builder: PE
// programs of the right kind. They boot nothing.
func writeEFIProgram(ts *testscript.TestScript, _ bool, args []string) {
	const align, page = 1024, 4096
	sections := []struct{ name, data string }{
		{".text", "\xc3"},
		{".sbat", "sbat,1,SBAT Version,sbat,1,https://github.com/rhboot/shim/blob/main/SBAT.md\n"},
		{".sdmagic", "#### LoaderInfo: systemd-stub 257 ####\x00"},
	}
	var b bytes.Buffer
	put := func(v any) { ts.Check(binary.Write(&b, binary.LittleEndian, v)) }
	dos := make([]byte, 64)
	copy(dos, "MZ")
	dos[0x3c] = 64
	put(dos)
	put([]byte("PE\x00\x00"))
	put(pe.FileHeader{Machine: pe.IMAGE_FILE_MACHINE_AMD64, NumberOfSections: uint16(len(sections)), SizeOfOptionalHeader: 240, Characteristics: 0x22e})
	put(pe.OptionalHeader64{
		Magic: 0x20b, AddressOfEntryPoint: page, SectionAlignment: page, FileAlignment: align, Subsystem: 10,
		SizeOfHeaders: 2 * align, SizeOfImage: uint32(len(sections)+1) * page, NumberOfRvaAndSizes: 16,
	})
	for i, s := range sections {
		h := pe.SectionHeader32{
			VirtualSize: uint32(len(s.data)), VirtualAddress: uint32(i+1) * page,
			SizeOfRawData: align, PointerToRawData: uint32(i+2) * align, Characteristics: 0x40000040,
		}
		copy(h.Name[:], s.name)
		put(h)
	}
	for i, s := range sections { // after two blocks of headers
		b.Write(make([]byte, (i+2)*align-b.Len()))
		b.WriteString(s.data)
	}
	b.Write(make([]byte, (len(sections)+2)*align-b.Len()))
	for _, name := range args {
		name = ts.MkAbs(name)
		ts.Check(os.MkdirAll(filepath.Dir(name), 0o755))
		ts.Check(os.WriteFile(name, b.Bytes(), 0o644))
	}
}

// awaitServer waits until a server answers at $ADDRESS.
func awaitServer(ts *testscript.TestScript, _ bool, _ []string) {
	for begun := time.Now(); ; {
		resp, err := http.Get("http://" + ts.Getenv("ADDRESS") + "/v2/")
		if err == nil {
			resp.Body.Close()
			return
		}
		if time.Since(begun) > 30*time.Second {
			ts.Fatalf("no server: %v", err)
		}
		<-time.After(20 * time.Millisecond)
	}
}

// startRegistry runs an empty docker-registry, and sets the variable that is
// named to its address.
func startRegistry(ts *testscript.TestScript, _ bool, args []string) {
	if len(args) != 1 {
		ts.Fatalf("usage: registry VARIABLE")
	}
	address, stop, err := runRegistry(ts.MkAbs(args[0]))
	ts.Check(err)
	ts.Defer(stop)
	ts.Setenv(args[0], address)
}

// runRegistry runs an empty docker-registry that keeps its data in dir.
func runRegistry(dir string) (address string, stop func(), err error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", nil, err
	}
	address = listener.Addr().String()
	listener.Close()
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", nil, err
	}
	config := filepath.Join(dir, "config.yml")
	text := fmt.Sprintf("version: 0.1\nlog:\n  level: error\n  accesslog:\n    disabled: true\n"+
		"storage:\n  filesystem:\n    rootdirectory: %s\nhttp:\n  addr: %s\n", filepath.Join(dir, "data"), address)
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		return "", nil, err
	}
	cmd := exec.Command("docker-registry", "serve", config)
	if err := cmd.Start(); err != nil {
		return "", nil, fmt.Errorf("%w (apt-get install docker-registry)", err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	stop = func() {
		cmd.Process.Kill()
		<-ended
	}
	for {
		resp, err := http.Get("http://" + address + "/v2/")
		if err == nil {
			resp.Body.Close()
			return address, stop, nil
		}
		select {
		case err := <-ended:
			return "", nil, fmt.Errorf("docker-registry ended: %v", err)
		case <-time.After(20 * time.Millisecond):
		}
	}
}
