#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# thaw check: test_check_cli.sh BUILD. What it finds in folders and in data with boxes, and
# its exit codes.
set -eu
build=$1
thaw=$build/thaw
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
failed=0

# has WHAT TEXT: the last output has a line with it.
has() {
    grep -q -e "$2" out || { echo "FAILED: $1: no \"$2\" in:"; cat out; failed=1; }
}
# expect CODE WHAT ARGS...
expect() {
    wanted=$1 what=$2
    shift 2
    code=0
    "$thaw" "$@" >out 2>&1 || code=$?
    [ "$code" = "$wanted" ] || { echo "FAILED: $what: exit $code, not $wanted:"; cat out; failed=1; }
}
# picture FILE N: 40 x 20, of one grey that N makes.
picture() {
    mkdir -p "$(dirname "$1")"
    { printf 'P6 40 20 255\n'; head -c 2400 /dev/zero | tr '\0' "\\$2"; } >"$1"
}

for i in 101 102 103 104 105 106 107 110 111 112 113 114; do
    picture photos/train/cat/$i.ppm $i
done
picture photos/train/dog/1.ppm 121
picture photos/train/dog/2.ppm 122
picture photos/val/cat/1.ppm 131
cp photos/train/cat/101.ppm photos/train/cat/copy.ppm
cp photos/train/dog/1.ppm photos/val/cat/leak.ppm
expect 0 "a folder" check photos
has "counts" "data     17 images (train 15, val 2, test 0), 2 classes"
has "copies" "finding  1 images are byte-identical copies"
has "copies by name" "train/cat/101.ppm (train) is photos/train/cat/copy.ppm (train)"
has "leaks" "finding  1 images of one split are, byte for byte, in another"
has "few" "dog  *2  *0  *0  few training images"
echo broken >photos/val/cat/broken.jpg
expect 3 "too many that cannot be read" check photos --workers 3
has "which" "photos/val/cat/broken.jpg"
has "why 3" "1 of 18 images cannot be read"
expect 0 "as many as are allowed" check photos --max-bad 0.5
expect 0 "JSON" check photos --max-bad 0.5 --json
has "one object" '^{"train":15,"val":3,.*"unreadable":{"count":1,.*"class":"dog","train":2,.*}$'
expect 3 "what training refuses" check photos/train/dog
expect 2 "no such format" check foo:photos

voc() {
    echo "<annotation><filename>$1.ppm</filename>"
    shift
    while [ $# -gt 0 ]; do
        echo "<object><name>$1</name><bndbox><xmin>$2</xmin><ymin>$3</ymin><xmax>$4</xmax><ymax>$5</ymax></bndbox></object>"
        shift 5
    done
    echo "</annotation>"
}
mkdir -p cells/annotations
picture cells/images/a.ppm 101
picture cells/images/b.ppm 102
picture cells/images/c.ppm 103
voc a rbc 4 2 24 18 rbc 4 2 24 18 wbc 0 0 4 4 >cells/annotations/a.xml
voc b rbc 30 5 45 15 wbc 5 5 5 9 >cells/annotations/b.xml
voc c >cells/annotations/c.xml
expect 0 "boxes" check voc:cells --val 0
has "objects" "boxes    4 objects; 1 images have none; at the images' own size: 50.0 % tiny"
has "shapes" "shapes   3 images are wider than high, 0 higher than wide, 0 square"
has "their input" "--image-size 64x32 shows a detector all as large as 64 does, on 50 % fewer"
has "left out" "warning  cells/annotations/b.xml, line 3: box 5 5 5 9 is empty"
has "drawn twice" "finding  1 boxes lie on another of their class"
has "over the edge" "finding  1 boxes reach over the edge"
expect 0 "at a size" check voc:cells --val 0 --image-size 400 --json
has "anchors" '"objects":4,"without_objects":1,"tiny":0,"anchors_fit":4,"wide":3,"high":0,"square":0,"input":"416x224",'
cp -r cells mixed
picture mixed/images/d.ppm 104
voc d wbc 4 2 24 18 >mixed/annotations/d.xml
for i in a b; do
    { printf 'P6 20 40 255\n'; tail -c 2400 mixed/images/$i.ppm; } >mixed/images/t$i.ppm
    voc t$i rbc 2 4 18 24 >mixed/annotations/t$i.xml
done
expect 0 "wide and high" check voc:mixed --val 0
has "both" "--image-size 64x32,32x64 shows a detector all as large as 64 does, on 50 % fewer"
expect 0 "in these" check voc:mixed --val 0 --image-size 64x32,32x64
has "sizes" "where they are largest of 64x32,32x64: "
{ printf 'P6 20 20 255\n'; head -c 1200 mixed/images/a.ppm; } >mixed/images/s.ppm
voc s rbc 2 4 18 18 >mixed/annotations/s.xml
expect 0 "and square" check voc:mixed --val 0 --json
has "three" '"wide":4,"high":2,"square":1,"input":"64x32,32x64,64",'
{
    echo path,label
    echo cells/images/a.ppm,x
    echo cells/images/b.ppm,y
} >list.csv
expect 0 "csv without boxes" check csv:list.csv --val 0
{
    echo path,label,x,y,width,height
    echo cells/images/a.ppm,x,1,2,3,4
    echo cells/images/b.ppm,y,1,2,3,4
} >list.csv
expect 0 "csv with boxes" check csv:list.csv --val 0
has "its objects" "boxes    2 objects"

# Annotations that nobody vouches for: a sentence with the place, exit code 3, and nothing
# is touched.
bad=cells/annotations/b.xml
{
    echo '<!DOCTYPE l [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;&a;&a;">'
    echo '<!ENTITY c "&b;&b;&b;&b;&b;&b;&b;&b;&b;&b;">]><annotation>&c;</annotation>'
} >$bad
expect 3 "a billion laughs" check voc:cells
has "where they are" "b.xml, line 1: a DOCTYPE"
voc ../../../etc/passwd rbc 1 2 3 4 >$bad
expect 3 "a name that leads out" check voc:cells
has "which" "etc/passwd"
voc b rbc nan 5 45 15 >$bad
expect 0 "a box that is no number" check voc:cells --val 0
has "where it is" "b.xml, line 2: box nan 5 45 15 is no number; left out"
voc gone rbc 1 2 3 4 >$bad
rm cells/images/b.ppm
expect 3 "a missing image" check voc:cells
has "whose" "b.xml, line 1: there is no image"
printf '{"images":[{"id":1,"file_name":"images/a.ppm"}],"annotations":[{"id":1,"image_' >cells/x.json
expect 3 "JSON that is cut off" check coco:cells/x.json
has "at its end" "x.json, byte 78"
{
    printf '{"images":[{"id":1,"file_name":"images/a.ppm"}],"categories":[{"id":1,"name":"a"}],'
    printf '"annotations":[{"id":5,"image_id":1,"category_id":2,"bbox":[1,2,3,4]}]}'
} >cells/x.json
expect 3 "a class that is not there" check coco:cells/x.json
has "whose" "annotation 5: no category has the id 2"
printf '{"info":[[[[[[[[[[]]]]]]]]]]}' >cells/x.json
expect 3 "JSON ten levels deep, without anything in it" check coco:cells/x.json
has "what it lacks" "must have images, annotations and categories"
[ $failed = 0 ] && echo "thaw check: all as documented"
exit $failed
