package store

import (
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/ashlar-os/ashlar/internal/image/verity"
)

// Every name that Ashlar gives to anything in a store is known here: what it is
// for (docs/store.md), and what a run that was cut leaves. A name that is neither
// is somebody else's. It is told, and never removed.

// Names of files that other packages write: history, update and sysroot.
var (
	rootFiles       = []string{lockFile, unsealedFile, resetFile, varFile, varKeyFile, "history", "history.1", "boots.json", "loader.json"}
	deploymentFiles = []string{deploymentFile, documentFile, "etc.json", "failure", "aside.json"}
	deploymentDirs  = []string{"etc", etcNew, "work"}
)

// etcNew is a merge of /etc that has not finished.
const etcNew = "etc.new"

// maxUnknown is more names than anybody reads.
const maxUnknown = 1000

func inRoot(name string) bool       { return slices.Contains(rootFiles, name) }
func inDeployment(name string) bool { return slices.Contains(deploymentFiles, name) }

// reportDir is where Ashlar writes to /var, and inReports what.
const reportDir = "log/ashlar"

func inReports(name string) bool { return name == "install.json" }

// Clean removes what runs that were cut left: everything in tmp/, and beside the
// files of the store, of its deployments and of /var/log/ashlar those that were to take
// their place. The lock must be held.
func (s *Store) Clean() error {
	if err := s.CleanTmp(); err != nil {
		return err
	}
	err := removeAbandoned(s.Dir, inRoot)
	if reports := removeAbandoned(s.path(varDir, reportDir), inReports); !errors.Is(reports, fs.ErrNotExist) {
		err = errors.Join(err, reports)
	}
	list, listErr := os.ReadDir(s.path(deploymentsDir))
	err = errors.Join(err, listErr)
	for _, e := range list {
		if d, bad := verity.Parse(e.Name()); bad == nil && e.IsDir() {
			err = errors.Join(err, removeAbandoned(s.DeploymentPath(d), inDeployment))
		}
	}
	if err != nil {
		return fmt.Errorf("cleaning up: %w", err)
	}
	return nil
}

// Unknown lists the names in the store that are not Ashlar's, relative to it and
// sorted, at most a thousand. Below var/, trust/ and the /etc of a deployment
// everything is its owner's.
func (s *Store) Unknown() ([]string, error) {
	list := []string{}
	look := func(dir string, known func(fs.DirEntry) bool) error {
		entries, err := os.ReadDir(s.path(dir))
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("looking for what is not Ashlar's: %w", err)
		}
		for _, e := range entries {
			if !known(e) {
				list = append(list, filepath.Join(dir, e.Name()))
			}
		}
		return nil
	}
	err := errors.Join(look(".", knownInRoot), look(imagesDir, isImage), look(deploymentsDir, isDeployment), look(objectsDir, isShard))
	for i := range 256 {
		shard := hex.EncodeToString([]byte{byte(i)})
		err = errors.Join(err, look(filepath.Join(objectsDir, shard), func(e fs.DirEntry) bool { return isObject(shard, e) }))
	}
	deployments, listErr := os.ReadDir(s.path(deploymentsDir))
	err = errors.Join(err, listErr)
	for _, e := range deployments {
		if isDeployment(e) {
			err = errors.Join(err, look(filepath.Join(deploymentsDir, e.Name()), knownInDeployment))
		}
	}
	if err != nil {
		return nil, err
	}
	slices.Sort(list)
	return list[:min(len(list), maxUnknown)], nil
}

func knownInRoot(e fs.DirEntry) bool {
	if e.IsDir() {
		return slices.ContainsFunc(layout, func(d layoutDir) bool { return d.name == e.Name() })
	}
	return e.Type().IsRegular() && (inRoot(e.Name()) || isAbandoned(e.Name(), inRoot))
}

func knownInDeployment(e fs.DirEntry) bool {
	if e.IsDir() {
		return slices.Contains(deploymentDirs, e.Name())
	}
	return e.Type().IsRegular() && (inDeployment(e.Name()) || isAbandoned(e.Name(), inDeployment))
}

func isImage(e fs.DirEntry) bool {
	_, err := verity.Parse(e.Name())
	return err == nil && e.Type().IsRegular()
}

func isDeployment(e fs.DirEntry) bool {
	_, err := verity.Parse(e.Name())
	return err == nil && e.IsDir()
}

func isShard(e fs.DirEntry) bool {
	b, err := hex.DecodeString(e.Name())
	return err == nil && len(b) == 1 && hex.EncodeToString(b) == e.Name() && e.IsDir()
}

func isObject(shard string, e fs.DirEntry) bool {
	_, err := verity.Parse(shard + e.Name())
	return err == nil && e.Type().IsRegular()
}
