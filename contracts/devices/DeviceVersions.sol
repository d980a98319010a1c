// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.28;

import {CodeRecord} from "../CodeRecord.sol";

/// @title Versions of a device, each stored as code that never changes
/// @dev A version begins with 43 bytes: previous version 20, block 5, time 5, offset of the registrant's key in the
/// record 2, registrant 4, spec 4, and the lengths of key, nonce and signature 1 each. Then come key, nonce, signature
/// and record.
library DeviceVersions {
    /// @notice A version.
    /// @param previous The version before, or 0.
    /// @param fromBlock Block in which the version was written.
    /// @param since Time of this block.
    /// @param keyAt Offset of the registrant's key, as text, in the record.
    /// @param registrant Index of the registrant.
    /// @param spec Index of the spec.
    /// @param key P-256 key of the device, 64 bytes or none.
    /// @param nonce IOTRegistry's id of the thing.
    /// @param signature IOTRegistry's signature, or nothing.
    /// @param record IOTRegistry's record of the thing.
    struct Version {
        address previous;
        uint40 fromBlock;
        uint40 since;
        uint16 keyAt;
        uint32 registrant;
        uint32 spec;
        bytes key;
        bytes nonce;
        bytes signature;
        bytes record;
    }

    uint256 private constant HEAD = 43;

    /// @notice Stores a version as written in the present block.
    /// @param version The version. Its block and time are set.
    /// @return pointer Address of the stored version.
    function write(Version memory version) internal returns (address pointer) {
        version.fromBlock = uint40(block.number);
        version.since = uint40(block.timestamp);
        bytes memory head = abi.encodePacked(
            version.previous,
            version.fromBlock,
            version.since,
            version.keyAt,
            version.registrant,
            version.spec,
            uint8(version.key.length),
            uint8(version.nonce.length),
            uint8(version.signature.length)
        );
        return
            CodeRecord.write(
                abi.encodePacked(head, version.key, version.nonce, version.signature, version.record)
            );
    }

    /// @notice Reads a version.
    /// @param pointer Address of the stored version.
    /// @return version The version.
    function read(address pointer) internal view returns (Version memory version) {
        uint256 head = uint256(bytes32(CodeRecord.read(pointer, 0, 32)));
        uint256 tail = uint256(bytes32(CodeRecord.read(pointer, 32, 32)));
        version.previous = address(uint160(head >> 96));
        version.fromBlock = uint40(head >> 56);
        version.since = uint40(head >> 16);
        version.keyAt = uint16(head);
        version.registrant = uint32(tail >> 224);
        version.spec = uint32(tail >> 192);

        uint256 nonceAt = HEAD + uint8(tail >> 184);
        uint256 signatureAt = nonceAt + uint8(tail >> 176);
        uint256 recordAt = signatureAt + uint8(tail >> 168);
        version.key = CodeRecord.read(pointer, HEAD, nonceAt - HEAD);
        version.nonce = CodeRecord.read(pointer, nonceAt, signatureAt - nonceAt);
        version.signature = CodeRecord.read(pointer, signatureAt, recordAt - signatureAt);
        version.record = CodeRecord.read(pointer, recordAt, CodeRecord.size(pointer) - recordAt);
    }

    /// @notice Reads the version before another.
    /// @param pointer Address of the stored version.
    /// @return previous Address of the version before, or 0.
    function previousOf(address pointer) internal view returns (address previous) {
        return address(bytes20(CodeRecord.read(pointer, 0, 20)));
    }

    /// @notice Reads the index of a version's registrant.
    /// @param pointer Address of the stored version.
    /// @return index Index of the registrant.
    function registrantOf(address pointer) internal view returns (uint32 index) {
        return uint32(bytes4(CodeRecord.read(pointer, 32, 4)));
    }
}
