"""Requests for the ``shell`` task: each command, and below it the ways to ask for it."""

from __future__ import annotations

_REQUESTS = """
ls {dir}
    List the files in {dir}.
    Show what is in the folder {dir}.
    What does the folder {dir} contain?
ls -a {dir}
    List everything in {dir}, hidden files too.
    Show all files in {dir}, even the hidden ones.
    What is in {dir}, hidden files included?
ls -l {dir}
    List the files in {dir} with details.
    Show {dir} with the details of each file.
    List {dir} in the long format.
ls -lt {dir}
    List the files in {dir} with details, newest first.
    Show {dir} in the long format, sorted by time.
ls -lS {dir}
    List the files in {dir} with details, largest first.
    Show {dir} in the long format, sorted by size.
ls -R {dir}
    List {dir} and every folder below it.
    Show what is in {dir} and in all its subfolders.
ls -t {dir} | head -n {n}
    Name the {n} newest files in {dir}.
    Which {n} files in {dir} were changed last?
ls {dir} | wc -l
    How many entries does the folder {dir} have?
    Count the entries of {dir}.
ls {dir} | grep {word}
    List the files in {dir} whose name contains {word}.
    Show the entries of {dir} with {word} in their name.
find {dir} -name '*.{ext}'
    Find all .{ext} files below {dir}.
    Which .{ext} files are there below {dir}?
    Search {dir} for files that end in .{ext}.
find {dir} -name {file}
    Find {file} somewhere below {dir}.
    Where below {dir} is {file}?
find {dir} -type d -name {name}
    Find every folder called {name} below {dir}.
    Where below {dir} are folders named {name}?
find {dir} -type d
    Find all folders below {dir}.
    Show only the folders below {dir}.
find {dir} -type f -size +{n}M
    Find the files below {dir} that are larger than {n} megabytes.
    Which files below {dir} have more than {n} MB?
find {dir} -type f -size -{n}k
    Find the files below {dir} that are smaller than {n} kilobytes.
    Which files below {dir} have less than {n} kB?
find {dir} -type f -mtime -{n}
    Find the files below {dir} that changed in the last {n} days.
    Which files below {dir} are younger than {n} days?
find {dir} -type f -mtime +{n}
    Find the files below {dir} that have not changed for more than {n} days.
    Which files below {dir} are older than {n} days?
find {dir} -name '*.{ext}' -mtime -{n}
    Find the .{ext} files below {dir} that changed in the last {n} days.
    Which .{ext} files below {dir} are younger than {n} days?
find {dir} -name '*.{ext}' -mtime +{n}
    Find the .{ext} files below {dir} that have not changed for more than {n} days.
    Which .{ext} files below {dir} are older than {n} days?
find {dir} -name '*.{ext}' -size +{n}M
    Find the .{ext} files below {dir} that are larger than {n} megabytes.
    Which .{ext} files below {dir} have more than {n} MB?
find {dir} -type f -empty
    Find the empty files below {dir}.
    Which files below {dir} are empty?
find {dir} -type d -empty
    Find the empty folders below {dir}.
    Which folders below {dir} are empty?
find {dir} -name '*.{ext}' -delete
    Find all .{ext} files below {dir} and delete them.
    Delete every .{ext} file below {dir}.
find {dir} -type f -empty -delete
    Find the empty files below {dir} and delete them.
    Delete every empty file below {dir}.
find {dir} -type f | wc -l
    Count the files below {dir}.
    How many files are there below {dir}?
find {dir} -name '*.{ext}' | wc -l
    Count the .{ext} files below {dir}.
    How many .{ext} files are there below {dir}?
grep {word} {file}
    Show the lines of {file} that contain {word}.
    Search {file} for {word}.
    Print every line with {word} in {file}.
grep -i {word} {file}
    Show the lines of {file} that contain {word}, ignoring case.
    Search {file} for {word} in upper or lower case.
grep -c {word} {file}
    How many lines of {file} contain {word}?
    Count the lines with {word} in {file}.
grep -n {word} {file}
    Show the lines of {file} that contain {word}, with line numbers.
    Search {file} for {word} and number the lines found.
grep -v {word} {file}
    Show the lines of {file} that do not contain {word}.
    Print every line without {word} in {file}.
grep -w {word} {file}
    Show the lines of {file} that contain {word} as a whole word.
    Search {file} for the whole word {word}.
grep -r {word} {dir}
    Search all files below {dir} for {word}.
    Show every line with {word} in any file below {dir}.
grep -rl {word} {dir}
    Which files below {dir} contain {word}?
    Name the files below {dir} that contain {word}.
grep {word} *.{text}
    Search all .{text} files here for {word}.
    Show the lines with {word} in the .{text} files here.
grep -l {word} *.{text}
    Which .{text} files here contain {word}?
    Name the .{text} files here that contain {word}.
grep {word} {file} | sort
    Show the lines of {file} that contain {word}, sorted.
    Search {file} for {word} and sort what you find.
grep {word} {file} | head -n {n}
    Show the first {n} lines of {file} that contain {word}.
    Print the first {n} lines with {word} in {file}.
tail -n {n} {file} | grep {word}
    Search the last {n} lines of {file} for {word}.
    Which of the last {n} lines of {file} contain {word}?
wc -l {file}
    Count the lines of {file}.
    How many lines does {file} have?
wc -w {file}
    Count the words in {file}.
    How many words does {file} have?
wc -c {file}
    Count the bytes of {file}.
    How many bytes does {file} have?
wc -l *.{text}
    Count the lines of all .{text} files here.
    How many lines does each .{text} file here have?
sort {file}
    Sort the lines of {file}.
    Show {file} in alphabetical order.
sort -r {file}
    Sort the lines of {file} in reverse.
    Show {file} in reverse alphabetical order.
sort -n {file}
    Sort the numbers in {file}.
    Show {file} in numerical order.
sort -nr {file}
    Sort the numbers in {file} in reverse.
    Show the numbers in {file}, largest first.
sort -u {file}
    Sort {file} and drop repeated lines.
    Show the sorted lines of {file}, each only once.
sort -k {field} {file}
    Sort {file} by field {field}.
    Show {file} sorted by its field {field}.
sort {file} > {file2}
    Sort {file} and write the result to {file2}.
    Write the sorted lines of {file} to {file2}.
sort {file} | uniq -c
    Sort {file} and count how often each line occurs.
    How often does each line of {file} occur, in sorted order?
sort {file} | uniq -d
    Sort {file} and show only the repeated lines.
    Which lines of {file} occur more than once, in sorted order?
sort -n {file} | head -n {n}
    Show the {n} smallest numbers in {file}.
    What are the {n} smallest numbers in {file}?
sort -nr {file} | head -n {n}
    Show the {n} largest numbers in {file}.
    What are the {n} largest numbers in {file}?
head -n {n} {file}
    Show the first {n} lines of {file}.
    Print the top {n} lines of {file}.
tail -n {n} {file}
    Show the last {n} lines of {file}.
    Print the final {n} lines of {file}.
tail -f {file}
    Follow {file} as it grows.
    Keep showing new lines of {file}.
cat {file}
    Print the whole of {file}.
    Show everything in the file {file}.
cat {file} {file2} > {file3}
    Join {file} and {file2} into {file3}.
    Write {file} and then {file2} to {file3}.
cat {file} >> {file2}
    Append {file} to {file2}.
    Add the text of {file} at the end of {file2}.
cp {file} {file2}
    Copy {file} to {file2}.
    Make a copy of {file} called {file2}.
cp {file} {dir}/
    Copy {file} into the folder {dir}.
    Put a copy of {file} into {dir}.
cp *.{ext} {dir}/
    Copy all .{ext} files here into the folder {dir}.
    Put a copy of each .{ext} file here into {dir}.
cp -r {dir} {dir2}
    Copy the folder {dir} with all it holds to {dir2}.
    Make a copy of the folder {dir} called {dir2}.
mv {file} {file2}
    Rename {file} to {file2}.
    Give {file} the new name {file2}.
mv {file} {dir}/
    Move {file} into the folder {dir}.
    Take {file} from here and move it to the folder {dir}.
mv *.{ext} {dir}/
    Move all .{ext} files here into the folder {dir}.
    Take every .{ext} file here and move it to the folder {dir}.
mkdir {name}
    Make a folder called {name}.
    Create the folder {name}.
mkdir -p {dir}/{name}
    Make the folder {dir}/{name} and any missing folder above it.
    Create {dir}/{name}, with its parent folders.
rm {file}
    Delete {file}.
    Remove the file {file}.
rm *.{ext}
    Delete all .{ext} files here.
    Remove every .{ext} file here.
rm -r {dir}
    Delete the folder {dir} with all it holds.
    Remove {dir} and everything in it.
rmdir {dir}
    Remove the empty folder {dir}.
    Delete the folder {dir}, which is empty.
touch {file}
    Create the empty file {file}.
    Make an empty file called {file}.
chmod +x {script}
    Make {script} executable.
    Allow {script} to be run.
chmod {mode} {file}
    Set the mode of {file} to {mode}.
    Give {file} the permissions {mode}.
chmod -R {mode} {dir}
    Set the mode of {dir} and everything in it to {mode}.
    Give {dir} and all it holds the permissions {mode}.
tar -czf {archive} {dir}
    Pack {dir} into the compressed archive {archive}.
    Make the archive {archive} from the folder {dir}.
tar -xzf {archive}
    Unpack {archive}.
    Extract all files from {archive} here.
tar -xzf {archive} -C {dir}
    Unpack {archive} into {dir}.
    Extract all files from {archive} into the folder {dir}.
tar -tzf {archive}
    List the files in the archive {archive}.
    What does the archive {archive} contain?
du -sh {dir}
    How much space does {dir} take, in readable units?
    Show the total size of {dir} in readable units.
du -sh {dir}/*
    How much space does each entry of {dir} take, in readable units?
    Show the size of each entry of {dir} in readable units.
du -a {dir} | sort -nr | head -n {n}
    Show the {n} largest files and folders below {dir}.
    Which {n} files and folders below {dir} take the most space?
diff {file} {file2}
    Compare {file} with {file2}.
    Show how {file} differs from {file2}.
cut -d, -f{field} {file}
    Show field {field} of each line of {file}, split at commas.
    Print the comma-separated field {field} of {file}.
"""


def _requests(text: str) -> tuple[tuple[str, tuple[str, ...]], ...]:
    """Each command with its wordings, which stand indented below it."""
    found: dict[str, list[str]] = {}
    command = ""
    for line in text.strip().splitlines():
        if line.startswith(" "):
            found[command].append(line.strip())
        else:
            command = line
            found[command] = []
    return tuple((command, tuple(wordings)) for command, wordings in found.items())


REQUESTS = _requests(_REQUESTS)
