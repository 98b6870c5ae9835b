#!/usr/bin/env bash
# Prints the Homebrew formula of a release, which builds it from the release's
# own source archive: formula.sh CHECKSUMS. CHECKSUMS is the release's list.
set -euo pipefail
root=$(dirname "${BASH_SOURCE[0]}")/../..
version=$("$root/tools/release/version.sh")
archive=neuroseal-$version.tar.gz
sum=$(awk -v name="$archive" '$2 == name { print $1 }' "${1:?the list of checksums}")
if [[ ! $sum =~ ^[0-9a-f]{64}$ ]]; then
    echo "$1: no SHA-256 of $archive" >&2
    exit 1
fi
cat <<RUBY
class Neuroseal < Formula
  desc "Seal open-weight language models by exact powers of two"
  homepage "https://github.com/neuroseal/neuroseal"
  url "https://github.com/neuroseal/neuroseal/releases/download/v$version/$archive"
  sha256 "$sum"
  license "MIT"
  head "https://github.com/neuroseal/neuroseal.git", branch: "main"

  depends_on "go" => :build

  def install
    ENV["CGO_ENABLED"] = "0"
    system "go", "build", *std_go_args(ldflags: "-s -w"), "./cmd/neuroseal"
    generate_completions_from_executable(bin/"neuroseal", "completion")
    system bin/"neuroseal", "man", "man1"
    man1.install Dir["man1/*.1"]
  end

  test do
    assert_equal version.to_s, shell_output("#{bin}/neuroseal version --quiet").strip
    system bin/"neuroseal", "demo", "--dir", testpath/"demo"
  end
end
RUBY
